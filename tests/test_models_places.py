"""What is written where: nothing is lost by it that somebody may want, and it is known before time is spent."""

import json
import logging
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
from cli_runs import Cli, make_cli
from test_models_linear import make_linear_bundle
from tiny_models import RECIPE, labelled_rows, make_bundle, one_thread, write_labelled

from models.corpora import CLASSES
from models.evaluate import evaluate, measure_probabilities, save_report
from models.export import export
from models.linear_plan import LinearPlan
from models.manifest import BundleError
from models.places import require_new, require_writable, training_folder
from models.recipe import RecipeError
from models.reports import load_report
from models.train import train


@pytest.fixture
def cli(tmp_path: Path, sqlite_url: str) -> Cli:
    """Commands whose configured bundle is a small one."""
    make_bundle(tmp_path / "tiny")
    return make_cli(tmp_path, sqlite_url, scoring={"bundle": "tiny"})


@pytest.fixture
def below_a_file(tmp_path: Path) -> Path:
    """A folder that nobody can make, not even root."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "out"


def test_a_new_folder_is_new_and_can_be_made(tmp_path: Path, below_a_file: Path) -> None:
    """Its parents are made, and nothing else is left there."""
    require_new(tmp_path / "a" / "b" / "c")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    with pytest.raises(BundleError, match="is there already: name a new folder"):
        require_new(tmp_path)
    for out in (below_a_file, below_a_file.parent):
        with pytest.raises(BundleError, match=f"{out.name} cannot be written: "):
            require_writable(out)


def test_a_training_replaces_what_is_its_own_alone(tmp_path: Path, below_a_file: Path) -> None:
    """An earlier bundle of the same recipe, or the rest of one; no other recipe's, no other files, not its start."""
    bundle = make_bundle(tmp_path / "tiny")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["trained"] = {"recipe": {"name": "mine"}}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    (bundle / "reliability.png").write_bytes(b"")
    assert training_folder(bundle, "mine", None) == bundle
    with pytest.raises(RecipeError, match="holds a bundle of the recipe mine: name another folder"):
        training_folder(bundle, "yours", None)
    with pytest.raises(RecipeError, match="is the bundle to start from"):
        training_folder(bundle, "mine", tmp_path / "." / "tiny")
    (bundle / "manifest.json").unlink()
    assert training_folder(bundle, "yours", None) == bundle
    (bundle / "letters.txt").write_text("mine")
    with pytest.raises(RecipeError, match=r"holds other files than a bundle's, such as letters\.txt"):
        training_folder(bundle, "mine", None)
    with pytest.raises(BundleError, match="cannot be written"):
        training_folder(below_a_file, "mine", None)


def test_the_shipped_bundle_is_not_replaced_by_what_starts_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the usual start of one's own posts, and may be the usual place as well."""
    monkeypatch.setattr("models.train.SHIPPED_BUNDLES", tmp_path / "bundles")
    make_bundle(tmp_path / "bundles" / "social-gru")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="is the bundle to start from"):
        train("social-gru", write_labelled(tmp_path / "posts.csv", labelled_rows(120)))


def test_a_bundle_of_another_kind_is_no_start(tmp_path: Path) -> None:
    """Said as such, before posts are read."""
    bundle = make_linear_bundle(tmp_path / "words", LinearPlan(), CLASSES)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    posts = write_labelled(tmp_path / "posts.csv", labelled_rows(120))
    with pytest.raises(BundleError, match="is of the kind linear; only the kind gru can be trained on"):
        train(tmp_path / "tiny.yaml", posts, tmp_path / "out", init=bundle)


def test_where_nothing_can_be_written_nothing_is_trained(
    tmp_path: Path, below_a_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said before a post is read, for both kinds of recipe."""
    caplog.set_level(logging.INFO)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    posts = write_labelled(tmp_path / "posts.csv", labelled_rows(120))
    for name in (recipe, "bow-logreg"):
        with pytest.raises(BundleError, match="cannot be written"):
            train(name, posts, below_a_file)
    assert not caplog.records


def test_a_saved_report_keeps_the_figures_of_other_posts(tmp_path: Path) -> None:
    """Of the same bundle: one that was trained again starts a new report."""
    bundle = make_bundle(tmp_path / "tiny")
    first, second = (
        write_labelled(tmp_path / f"{name}.csv", labelled_rows(60, seed=seed))
        for seed, name in enumerate(("first", "second"))
    )
    with one_thread():
        save_report(bundle, evaluate(bundle, first) | {"note": 1})
        before, other = load_report(bundle), evaluate(bundle, second)
    save_report(bundle, other)
    found = load_report(bundle)
    assert found == {**other, **before, "sets": {**before["sets"], **other["sets"]}, "posts_per_cpu_second": ANY}
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert "| first " in card
    assert "| second " in card
    for useless in (json.dumps(found | {"sha256": "of another bundle"}), "[]", json.dumps({"sha256": other["sha256"]})):
        (bundle / "report.json").write_text(useless)
        save_report(bundle, other)
        assert load_report(bundle) == other


def test_the_report_of_a_bag_of_words_is_saved_with_its_own_card(tmp_path: Path) -> None:
    """What was measured after the training stands beside it, and the runs stay."""
    posts = write_labelled(tmp_path / "posts.csv", labelled_rows(200))
    more = write_labelled(tmp_path / "more.csv", labelled_rows(60, seed=9))
    with one_thread():
        bundle = train("bow-logreg", posts, tmp_path / "bag")
        trained = load_report(bundle)
        save_report(bundle, evaluate(bundle, more))
    found = load_report(bundle)
    assert set(found["sets"]) == {"posts test", "more"}
    assert (found["runs"], found["headline"]) == (trained["runs"], trained["headline"])
    assert "kind `linear`" in (bundle / "README.md").read_text(encoding="utf-8")


def test_figures_that_nobody_can_have_are_left_out(tmp_path: Path) -> None:
    """Neutral posts alone have no side, and a bundle of two classes no log loss over three: JSON knows no NaN."""
    even = np.full((4, 3), 1 / 3)
    assert "two_class_accuracy" not in measure_probabilities(np.ones(4, np.int64), even)
    assert measure_probabilities(np.array([0, 1, 1, 2]), even)["two_class_accuracy"] == 0.5
    posts = write_labelled(tmp_path / "posts.csv", labelled_rows(60))
    with one_thread():
        report = evaluate(make_linear_bundle(tmp_path / "words", LinearPlan()), posts)
    assert set(report["headline"]) == {"accuracy", "macro_f1", "macro_recall"}
    json.dumps(report, allow_nan=False)


def test_an_export_leaves_what_is_there(tmp_path: Path) -> None:
    """Neither another bundle's tokenizer.json nor a bundle is overwritten."""
    subwords, words = make_bundle(tmp_path / "tiny"), make_linear_bundle(tmp_path / "words", LinearPlan())
    export(subwords, tmp_path / "out" / "a.onnx")
    export(subwords, tmp_path / "out" / "b.onnx")
    with pytest.raises(BundleError, match=r"tokenizer\.json is another bundle's: name another folder"):
        export(words, tmp_path / "out" / "c.onnx")
    with pytest.raises(BundleError, match="would lie in a bundle"):
        export(subwords, words / "d.onnx")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.onnx", "b.onnx", "tokenizer.json"}


def test_a_card_that_is_not_there_is_told_in_a_sentence(cli: Cli, tmp_path: Path) -> None:
    """With the command that writes it; a folder without manifest is no bundle."""
    assert "--save` writes it" in cli.fails(78, "model", "show", "tiny", "--card")
    (tmp_path / "tiny" / "manifest.json").unlink()
    assert "is no bundle: manifest.json is missing" in cli.fails(78, "model", "show", "tiny")


def test_a_picture_has_its_folder_made(cli: Cli, tmp_path: Path, below_a_file: Path) -> None:
    """And where it cannot be, that is said first."""
    posts = str(write_labelled(tmp_path / "posts.csv", labelled_rows(60)))
    cli.ok("model", "explore", posts, "--plot", str(tmp_path / "new" / "zipf.png"))
    assert (tmp_path / "new" / "zipf.png").read_bytes().startswith(b"\x89PNG")
    assert "cannot be written" in cli.fails(78, "model", "explore", posts, "--plot", str(below_a_file / "zipf.png"))
    assert "--seed" in cli.fails(2, "model", "train", "bow-svm", "--seed", "-1")
