"""Where nobody names posts, bundles are compared, searched for mistakes and made int8 on what they held out."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cli_runs import make_cli
from test_models_tasks import data, sided
from test_models_tasks_train import tiny
from tiny_models import labelled_rows, make_bundle, one_thread, write_labelled

from models.bundle import Bundle, save_bundle
from models.calibration import Calibration
from models.corpora import CLASSES, CorpusError
from models.evaluate import evaluate, load_report, save_report
from models.labelled import LabelledPosts, load_labelled
from models.manifest import CARD, read_manifest
from models.mistakes import group_mistakes
from models.network_weights import read_weights
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
    return train_words(data, tmp_path_factory.mktemp("words") / "words")


def train_words(data: Path, out: Path, task: str | None = None) -> Path:
    """A small linear bundle."""
    return train("bow-logreg", data, out, scale="small", with_variants=False, task=task)


def test_bundles_of_one_task_are_asked_about_what_they_held_out(attention: Path, words: Path, data: Path) -> None:
    """Neither what they learnt from nor the test; with a bundle of another task, the development tweets."""
    split = load_task("imdb", data)
    found = load_labelled(data, [read_manifest(attention), read_manifest(words)])
    assert found == LabelledPosts("imdb held out", split.development, "imdb")
    measured = compare(attention, words, data)
    assert (measured["data"], measured["posts"]) == ("imdb held out", len(split.development))
    tweets = read_manifest(train_words(data, words.parent / "tweets", task="tweets3"))
    assert load_labelled(data, [read_manifest(attention), tweets]) == load_labelled(data, [])
    assert load_labelled(data, [tweets]).task == "tweets3"
    assert load_labelled(data, []).name == "development tweets"


def test_who_learnt_from_the_development_tweets_is_not_asked_about_them(words: Path, data: Path) -> None:
    """Beside a bundle of another task its figures would be of what it learnt; alone it has posts held out."""
    learnt = read_manifest(train_words(data, words.parent / "learnt", task="semeval"))
    assert load_labelled(data, [learnt]).task == "semeval"
    further = replace(learnt, name="further", trained={**learnt.trained, "recipe": {}, "start": {"tasks": ["semeval"]}})
    calibrated = replace(learnt, name="fitted", trained={"calibrated": {"data": "development tweets"}})
    for bundle in (learnt, further, calibrated):
        with pytest.raises(CorpusError, match=f"{bundle.name} learnt from the tweets that others are compared on, or"):
            load_labelled(data, [read_manifest(words), bundle])
    own = write_labelled(words.parent / "mine.csv", sided(150, 9))
    other = read_manifest(train_words(own, words.parent / "other", task="semeval"))
    assert load_labelled(data, [read_manifest(words), other]).name == "development tweets"


def test_a_bundle_says_what_it_was_calibrated_on(data: Path, tmp_path: Path) -> None:
    """Fitted to the development tweets, it is not asked about them."""
    bundle = make_bundle(tmp_path / "tiny")
    manifest = read_manifest(bundle)
    assert load_labelled(data, [manifest]).name == "development tweets"
    rows = [(f"{text} {i}", label) for i, (text, label) in enumerate(labelled_rows(300, 12))]
    recalibrate(bundle, tmp_path / "own", write_labelled(tmp_path / "mine.csv", rows))
    assert read_manifest(tmp_path / "own").trained["calibrated"]["data"] == "mine"
    assert load_labelled(data, [read_manifest(tmp_path / "own")]).name == "development tweets"


STRANGE: dict[str, dict[str, Any]] = {
    "no hashes": {"data_sha256": None},
    "other hashes": {"data_sha256": {"imdb_train.csv.gz": "0" * 64}},
    "a list of hashes": {"data_sha256": [["a"]]},
    "another grammar": {"beside_sha256": {"grammar.yaml": "0" * 64}},
    "no such split": {"split": 7},
    "no number": {"split": "0"},
    "a float": {"split": float("inf")},
    "no such task": {"recipe": {"task": "films"}},
    "a list of tasks": {"recipe": {"task": ["imdb"]}},
    "no recipe": {"recipe": "imdb"},
    "another start": {"start": {"name": "other"}},
    "a file of one's own": {"own_posts": True},
}


@pytest.mark.parametrize("changed", STRANGE.values(), ids=STRANGE)
def test_of_other_posts_nothing_is_known(words: Path, data: Path, changed: dict[str, Any]) -> None:
    """Whatever a manifest says: posts that were divided otherwise may be among those that it learnt from."""
    manifest = read_manifest(words)
    assert load_labelled(data, [manifest]).task == "imdb"
    assert load_labelled(data, [replace(manifest, trained={**manifest.trained, **changed})]).task is None


def test_posts_of_ones_own_are_named_by_their_file(attention: Path, data: Path, tmp_path: Path) -> None:
    """They come first; of a bundle that learnt from a file of one's own nothing is known without it."""
    own = write_labelled(tmp_path / "mine.csv", sided(150, 9))
    found = load_labelled(own, [read_manifest(attention)])
    assert (found.name, len(found.corpus), found.task) == ("mine", 150, None)
    with gzip.open(data / "uci_sentences.csv.gz", "rt", encoding="utf-8") as stream:
        (tmp_path / "uci_sentences.csv").write_text(stream.read(), encoding="utf-8")
    made = read_manifest(train_words(tmp_path / "uci_sentences.csv", tmp_path / "made", task="uci"))
    assert made.trained["own_posts"] is True
    assert load_labelled(data, [made]).task is None


def test_mistakes_are_of_them_too(words: Path, tmp_path: Path, data: Path) -> None:
    """`model errors` counts the posts held out that are misread, here by a bundle that has its classes swapped."""
    manifest, weights = read_manifest(words), read_weights(words)
    tokenizer = (words / "tokenizer.json").read_text(encoding="utf-8")
    turned = {name: -tensor if name.startswith("output.") else tensor for name, tensor in weights.items()}
    save_bundle(tmp_path / "turned", manifest, turned, tokenizer, Calibration(1.0, (0.0, 0.0)))
    corpus = load_task("imdb", data).development
    labels = Bundle.load(tmp_path / "turned", "cpu").score(corpus.texts).labels
    wrong = sum(label != CLASSES[truth] for label, truth in zip(labels, corpus.labels, strict=True))
    assert wrong > len(corpus) / 2
    assert group_mistakes(tmp_path / "turned", data, 0.0)[0].mistakes == wrong


def test_a_calibration_is_not_fitted_to_what_it_was_fitted_to(attention: Path, data: Path, tmp_path: Path) -> None:
    """The posts that a task's bundle held out gave it the calibration that it has."""
    with pytest.raises(CorpusError, match="held out posts of imdb for its calibration: name others with --data"):
        recalibrate(attention, tmp_path / "calibrated", data)
    assert not (tmp_path / "calibrated").exists()


def test_int8_has_a_card_of_its_own(attention: Path, data: Path, tmp_path: Path) -> None:
    """Size and figures before and after stand on it, beside those of the test posts; an evaluation keeps them.

    It is held to what the recipe is held to.
    """
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
    assert f"The recipe is held to: {load_report(attention)['must_reach']}." in card
    assert "int8" not in (attention / CARD).read_text(encoding="utf-8")


def test_an_int8_bundle_is_told_by_itself(words: Path, data: Path, tmp_path: Path) -> None:
    """On posts of one's own no card is written; the one of a later evaluation still says what the bundle is."""
    own = write_labelled(tmp_path / "mine.csv", sided(150, 9))
    assert quantize(words, tmp_path / "int8", own)["data"] == "mine"
    assert not (tmp_path / "int8" / CARD).exists()
    recalibrate(tmp_path / "int8", tmp_path / "again", own)
    save_report(tmp_path / "again", evaluate(tmp_path / "again", data))
    card = (tmp_path / "again" / CARD).read_text(encoding="utf-8")
    assert "MiB with int8 matrices" in card
    assert "`model calibrate` fitted its probabilities anew to 150 posts." in card
    assert "Before and after int8" not in card


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


def test_nothing_is_left_of_an_int8_bundle_that_was_not_measured(
    words: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the middle, the same command goes through the next time."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("models.quantize.write_report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quantize(words, tmp_path / "small", data)
    assert not (tmp_path / "small").exists()
    quantize(words, tmp_path / "small", data)
