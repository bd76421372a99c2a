"""The linear recipes from labelled posts to a bundle: tiny, end to end, held against scikit-learn."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import make_cli
from sklearn.metrics import accuracy_score, f1_score, recall_score
from test_models_tasks import data, sided
from tiny_models import labelled_rows, write_labelled

from models.bundle import Bundle
from models.corpora import CLASSES
from models.evaluate import evaluate, load_report
from models.kinds import load_network
from models.linear_training import fit, make_pipeline
from models.linear_words import weightiest
from models.manifest import LOADED_FILES, read_manifest
from models.recipe import RecipeError, find_recipe
from models.task_recipe import read_task_recipe
from models.tasks import class_indices, load_task
from models.train import train
from models.word_tokenizer import WordEncoder

__all__ = ["data"]  # a fixture

RECIPES = ("bow-logreg", "bow-svm", "sentiment140-logreg")
NOISE = [("great acme nice number 1000", "negative"), ("bad acme awful number 1001", "positive")]


def noisy(n: int) -> list[tuple[str, str]]:
    """Two classes, and some posts that say the opposite of their label."""
    return [*sided(n, 1), *((f"{text} {i}", label) for i in range(n // 20) for text, label in NOISE)]


@pytest.fixture(scope="module", params=RECIPES)
def trained(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a shipped recipe, trained on small corpora."""
    return train(request.param, data, tmp_path_factory.mktemp("trained") / "words", scale="small", with_variants=False)


def test_training_leaves_a_whole_bundle(trained: Path, data: Path) -> None:
    """Weights, words and calibration that are served; report, card and pictures; evaluation says the same again."""
    bundle = Bundle.load(trained, "cpu")
    assert bundle.score(["great acme nice", "awful acme bad"]).labels == ["positive", "negative"]
    report = load_report(trained)
    figures = report["sets"][report["headline_set"]]["network"]
    assert figures["accuracy"] > 0.9
    assert (trained / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert "kind `linear`" in card
    assert report["words"]["positive"][0][0] in card
    assert report["words"]["positive"] == [list(pair) for pair in weightiest(trained, 30)[0]]
    again = evaluate(trained, data)
    assert again["sets"] == report["sets"]


def test_a_card_tells_of_another_task(data: Path, tmp_path: Path) -> None:
    """How the bundle is made again, and that it is not of the recipe's own posts."""
    out = train("bow-svm", data, tmp_path / "words", scale="small", with_variants=False, task="tweets3")
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "The network of `bow-svm` on posts of the task `tweets3`." in card
    assert "`sentiment-monitor model train bow-svm --task tweets3 --scale small`" in card
    again = train("bow-svm", data, tmp_path / "again", scale="small", with_variants=False, task="imdb")
    mine = write_labelled(tmp_path / "mine.csv", noisy(150))
    own = train("bow-svm", mine, tmp_path / "own", scale="small", with_variants=False, task="tweets3")
    for folder in (again, own):
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "of the task" not in card
        assert "--task" not in card


def test_figures_equal_scikit_learn(trained: Path, data: Path) -> None:
    """What the report says is what scikit-learn says of its own pipeline, fitted to the same posts."""
    manifest = read_manifest(trained)
    recipe = read_task_recipe(find_recipe(manifest.trained["recipe"]["name"]), "small")[0].recipe
    split = load_task(recipe.task, data)
    encoder = Bundle.load(trained, "cpu").encoder
    assert isinstance(encoder, WordEncoder)
    pipeline = make_pipeline(recipe.network, encoder, recipe.seed)
    fit(pipeline, split.train.texts, class_indices(split.train, split.classes))
    test = split.read_test()
    truth, network = class_indices(test, split.classes), load_network(trained, manifest)
    margins = pipeline.decision_function(test.texts)
    found = Bundle.load(trained, "cpu").logits(test.texts)[:, 1]
    assert found == pytest.approx(margins, abs=0.02)  # its weights are rounded to fp16
    assert network.shape.n_tokens == len(pipeline["features"].vocabulary_) + 1
    calibration = Bundle.load(trained, "cpu").calibration
    logits = np.stack([np.zeros(len(margins)), margins], axis=1)
    predicted = calibration.apply(logits).argmax(axis=1)
    figures = load_report(trained)["sets"][f"{recipe.task} test"]["network"]
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert figures["macro_recall"] == pytest.approx(recall_score(truth, predicted, average="macro"))
    assert figures["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_the_same_training_gives_the_same_bytes(trained: Path, data: Path, tmp_path: Path) -> None:
    """A function of recipe, data and seed."""
    recipe = read_manifest(trained).trained["recipe"]["name"]
    again = train(recipe, data, tmp_path / "words", scale="small", with_variants=False)
    for name in LOADED_FILES:
        assert (again / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize(
    ("rows", "classes"), [(labelled_rows(300), CLASSES), (noisy(300), ("negative", "positive"))], ids=["three", "two"]
)
@pytest.mark.parametrize("recipe", ["bow-svm", "sentiment140-logreg"])
def test_own_posts_are_learnt(
    tmp_path: Path, recipe: str, rows: list[tuple[str, str]], classes: tuple[str, ...]
) -> None:
    """A CSV of one's own with two classes or three; probabilities are calibrated on posts held out."""
    path = write_labelled(tmp_path / "mine.csv", rows)
    folder = train(recipe, path, tmp_path / "words", scale="small", with_variants=False)
    report = load_report(folder)
    assert report["headline_set"] == "mine test"
    figures = report["sets"]["mine test"]["network"]
    assert figures["accuracy"] > 0.85
    assert figures["log_loss"] < 0.5
    assert read_manifest(folder).classes == classes


def test_words_are_listed_by_the_command(trained: Path, tmp_path: Path, sqlite_url: str) -> None:
    """`model words` and `model show --card` have the same lists."""
    cli = make_cli(tmp_path, sqlite_url, scoring={"bundle": str(trained)})
    found = json.loads(cli.ok("model", "words", "-n", "30", "--json"))
    assert [list(pair) for pair in found["positive"].items()] == load_report(trained)["words"]["positive"]
    assert next(iter(found["negative"])) in cli.ok("model", "show", "--card")


def test_nothing_to_start_from(data: Path, trained: Path, tmp_path: Path) -> None:
    """A bundle to start from is refused before anything is read."""
    with pytest.raises(RecipeError, match="starts from nothing"):
        train("bow-logreg", data, tmp_path / "words", init=trained)


def test_without_scikit_learn_the_extra_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(RecipeError, match=r"sentiment-monitor\[train\]"):
        train("bow-logreg", data, tmp_path / "words")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bow-logreg", "--data", "hub:nowhere/at-all"), "hub:nowhere/at-all"),
        (("social-gru", "--data", "hub:imdb"), "are for the recipes of one task"),
        (("bow-logreg", "--vectors", "{labelled}"), "starts from nothing"),
        (("{unknown}",), "no task is called film; there are imdb"),
        (("{broken}",), "network.classifier 'tree' is none of logistic, svm"),
    ],
    ids=["no such data set", "hub for another family", "vectors", "unknown task", "unknown classifier"],
)
def test_what_is_wrong_is_told_first(
    tmp_path: Path,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    data: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """One sentence and exit code 78, and no bundle."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setenv("SENTIMENT_DATA", str(data))
    text = find_recipe("bow-svm").read_text(encoding="utf-8")
    (tmp_path / "unknown.yaml").write_text(text.replace("task: imdb", "task: film"))
    (tmp_path / "broken.yaml").write_text(text.replace("classifier: svm", "classifier: tree"))
    paths = {name: str(tmp_path / f"{name}.yaml") for name in ("unknown", "broken")}
    paths["labelled"] = str(write_labelled(tmp_path / "labelled.csv", sided(10, 1)))
    cli = make_cli(tmp_path, sqlite_url)
    typed = [argument.format(**paths) for argument in arguments]
    assert message in cli.fails(78, "model", "train", *typed, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
