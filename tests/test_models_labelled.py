"""Where nobody names posts, bundles are compared, calibrated and made int8 on what they held out themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_runs import make_cli
from test_models_tasks import data, sided
from test_models_tasks_train import tiny
from tiny_models import make_bundle, one_thread, write_labelled

from models.bundle import Bundle
from models.corpora import CorpusError
from models.evaluate import evaluate, load_report, save_report
from models.labelled import load_labelled
from models.manifest import CARD, read_manifest
from models.mistakes import group_mistakes
from models.paired import compare
from models.quantize import quantize
from models.recalibrate import recalibrate
from models.tasks import load_task
from models.train import train

__all__ = ["data"]  # a fixture


@pytest.fixture(scope="module")
def attention(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle of film reviews."""
    folder = tmp_path_factory.mktemp("attention")
    recipe = folder / "imdb-bilstm-attention.yaml"
    recipe.write_text(yaml.safe_dump(tiny("imdb-bilstm-attention")), encoding="utf-8")
    with one_thread():
        return train(recipe, data, folder / "reviews")


@pytest.fixture(scope="module")
def words(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear bundle of the same reviews."""
    out = tmp_path_factory.mktemp("words") / "words"
    return train("bow-logreg", data, out, scale="small", with_variants=False)


def test_bundles_of_one_task_are_asked_about_what_they_held_out(attention: Path, words: Path, data: Path) -> None:
    """Neither what they learnt from nor the test; with a bundle of another task, the development tweets."""
    split = load_task("imdb", data)
    name, corpus = load_labelled(data, [read_manifest(attention), read_manifest(words)])
    assert (name, corpus) == ("imdb held out", split.development)
    found = compare(attention, words, data)
    assert (found["data"], found["posts"]) == ("imdb held out", len(split.development))
    tweets = train("bow-logreg", data, words.parent / "tweets", scale="small", with_variants=False, task="tweets3")
    assert load_labelled(data, [read_manifest(attention), read_manifest(tweets)])[0] == "development tweets"
    assert load_labelled(data, [read_manifest(tweets)])[0] == "tweets3 held out"
    assert load_labelled(data, [])[0] == "development tweets"


def test_posts_of_ones_own_are_named_by_their_file(attention: Path, data: Path, tmp_path: Path) -> None:
    """They come first; of a bundle that learnt from a file of one's own nothing is known without it."""
    own = write_labelled(tmp_path / "mine.csv", sided(150, 9))
    name, corpus = load_labelled(own, [read_manifest(attention)])
    assert (name, len(corpus)) == ("mine", 150)
    made = train("bow-logreg", own, tmp_path / "made", scale="small", with_variants=False)
    assert load_labelled(data, [read_manifest(made)])[0] == "development tweets"


def test_mistakes_and_calibration_are_of_them_too(attention: Path, data: Path, tmp_path: Path) -> None:
    """`model errors` and `model calibrate --out`, which has too few of these reviews and says so of them."""
    held_out = len(load_task("imdb", data).development)
    groups = group_mistakes(attention, data, 0.0)
    right = Bundle.load(attention, "cpu").score(load_task("imdb", data).development.texts)
    assert groups[0].mistakes <= held_out == len(right.labels)
    with pytest.raises(CorpusError, match="needs 50 posts of each class; there are only"):
        recalibrate(attention, tmp_path / "calibrated", data)


def test_int8_has_a_card_of_its_own(attention: Path, data: Path, tmp_path: Path) -> None:
    """Size and figures before and after stand on it, beside those of the test posts; an evaluation keeps them."""
    out = tmp_path / "int8"
    found = quantize(attention, out, data)
    assert found["data"] == "imdb held out"
    assert found["bytes_after"] < found["bytes_before"]
    first = load_report(out)
    save_report(out, evaluate(out, data))
    report, card = load_report(out), (out / CARD).read_text(encoding="utf-8")
    assert report["int8"] == first["int8"] == found
    assert report["sets"] == first["sets"]
    assert report["headline_set"] == "imdb test"
    assert f"| bytes of weights | {found['bytes_before']:,} | {found['bytes_after']:,} |" in card
    accuracy = found["accuracy"]
    assert f"| accuracy | {accuracy['first']:.4f} | {accuracy['second']:.4f} | {accuracy['difference']:+.4f} |" in card
    assert "MiB with int8 matrices" in card
    assert "int8" not in (attention / CARD).read_text(encoding="utf-8")


def test_a_linear_bundle_can_be_int8(words: Path, data: Path, tmp_path: Path) -> None:
    """It scores nearly as before."""
    found = quantize(words, tmp_path / "small", data)
    texts = load_task("imdb", data).development.texts
    before, after = (Bundle.load(path, "cpu").score(texts).pos_prob for path in (words, tmp_path / "small"))
    assert 0 < np.abs(before - after).max() < 0.1
    assert found["data"] == "imdb held out"


def test_of_other_bundles_the_figures_are_printed_alone(data: Path, tmp_path: Path, sqlite_url: str) -> None:
    """The report of a mixture is what `model evaluate` measures."""
    cli = make_cli(tmp_path, sqlite_url)
    cli.env["SENTIMENT_DATA"] = str(data)
    make_bundle(tmp_path / "tiny")
    told = json.loads(cli.ok("model", "quantize", "tiny", "--out", str(tmp_path / "small"), "--json"))
    assert told["data"] == "development tweets"
    assert not (tmp_path / "small" / CARD).exists()
