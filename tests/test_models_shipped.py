"""The bundle that ships: whole, small, as good as its report says, and reported by the commands that say so."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, find_bundle, headline_metrics
from models.calibration_figures import POS_PROB
from models.corpora import CLASSES, DATA_VARIABLE, DEFAULT_DATA, load_csv, load_test
from models.evaluate import load_report
from models.left_out import mark_others
from models.manifest import read_manifest
from models.measures import macro_recall
from models.model_card import render_card

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "models" / "bundles" / "social-gru"
DATA = Path(os.environ.get(DATA_VARIABLE, ROOT / DEFAULT_DATA))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shipped bundle on the CPU."""
    return Bundle.load(find_bundle("social-gru", ROOT), "cpu")


def accuracy(bundle: Bundle, name: str) -> float:
    """Share of the posts of `tests/NAME.csv` that get their label."""
    corpus = load_csv(ROOT / "tests" / f"{name}.csv")
    predicted = bundle.score(corpus.texts).probabilities.argmax(axis=1)
    assert len(corpus) == 100
    return float((predicted == np.array(corpus.labels)).mean())


def test_it_is_whole_and_at_most_twelve_mebibytes() -> None:
    """Every hash holds, and all files together stay within 12 MiB."""
    manifest = read_manifest(FOLDER)
    assert manifest.classes == ("negative", "neutral", "positive")
    assert manifest.network["hidden"] <= 128
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 12 * 2**20


def test_plain_posts(bundle: Bundle) -> None:
    """At least 90 of the hundred plain posts get their label, and as many as the report says."""
    found = accuracy(bundle, "plain_posts")
    assert found >= 0.90
    assert found == pytest.approx(bundle.metrics["plain_posts_accuracy"])


def test_hard_posts(bundle: Bundle) -> None:
    """At least 90 of the hundred hard posts get their label, and as many as the report says."""
    found = accuracy(bundle, "hard_posts")
    assert found >= 0.90
    assert found == pytest.approx(bundle.metrics["hard_posts_accuracy"])


def test_to_say_that_somebody_cheated_is_no_praise(bundle: Bundle) -> None:
    """It was to a bundle that had learnt from labels which meant the accusation (`corpora.SET_ASIDE`)."""
    texts = [
        "once a cheater always a cheater",
        "@acme is cheating people out of their money",
        "They lied about the test results, and now we all know that they cheat",
        "What a scandal. Guilty, all of them, and they knew it",
    ]
    assert (np.asarray(bundle.score(texts).pos_prob) < 0.5).all()


@pytest.mark.skipif(not DATA.exists(), reason=f"needs the labelled tweets ({DATA_VARIABLE})")
def test_macro_recall_on_2016test(bundle: Bundle) -> None:
    """On every fourth tweet of SemEval 2016test macro recall is at least 0.665 and near the report's."""
    corpus = load_test(DATA).select(range(0, 20_000, 4))
    predicted = bundle.score(corpus.texts).probabilities.argmax(axis=1)
    found = macro_recall(np.array(corpus.labels), predicted, 3)
    assert found >= 0.665
    assert found == pytest.approx(bundle.metrics["macro_recall"], abs=0.025)


def test_card_and_report_are_of_these_weights() -> None:
    """The report names this manifest, and the card is what the report renders to, to the letter."""
    manifest, report = read_manifest(FOLDER), load_report(FOLDER)
    assert report["sha256"] == manifest.sha256
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == render_card(manifest, report)
    assert headline_metrics(FOLDER) == report["headline"]


def test_its_report_reaches_the_bars() -> None:
    """On 2016test, of calibration on the random hold-out, of brands' daily means, and of whole sources left out."""
    report = load_report(FOLDER)
    assert report["headline_set"] == "2016test"
    assert report["headline"]["macro_recall"] >= 0.665
    calibration = report["calibration"]["random hold-out"]
    assert calibration["posts"] >= 10_000
    assert max(calibration[part]["ece"] for part in (*CLASSES, POS_PROB)) <= 0.02
    assert report["brand_days"]["brand_days"] == 82
    assert report["brand_days"]["corrected"]["mean_difference"] <= 0.06
    hold_out = mark_others(report["hold_out"], read_manifest(FOLDER).trained)
    of_recipe = {source: one["two_class_accuracy"] for source, one in hold_out.items() if "other_recipe" not in one}
    assert set(of_recipe) == {"crowdflower", "goemotions", "sanders", "semeval", "tweet_extraction", "uci"}
    assert np.mean(list(of_recipe.values())) >= 0.85


def test_its_card_tells_of_the_stage_that_ran_to_its_end() -> None:
    """The first stage may have ended early; what was held out chose no epoch of the last one."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "- `broad`, up to 3 epochs of" in card
    assert "- `close`, 9 epochs of" in card
    assert "3,000 tweets of SemEval 2013-2015 were held out to choose the recipe" in card


def test_a_card_says_of_how_many_epochs_the_posts_are() -> None:
    """Where the recipe had its teachers asked about those of the first ones alone."""
    manifest, report = read_manifest(FOLDER), load_report(FOLDER)
    told = "was drawn in a stage's first 2 epochs; later ones had it again."
    assert told not in render_card(manifest, report)
    trained = dict(manifest.trained)
    trained["recipe"] = dict(manifest.trained["recipe"], fresh_epochs=2)
    assert told in render_card(replace(manifest, trained=trained), report)
    assert told not in render_card(replace(manifest, trained=trained | {"teachers": []}), report)


def test_its_card_tells_of_its_teachers() -> None:
    """How many there were, and which labels they overruled."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    assert "what 3 teachers say of it on average" in card
    assert "(all of it for generated posts, none of it for emoticon2011 and sentiment140 posts)" in card


def test_opposites_lie_on_their_sides(bundle: Bundle) -> None:
    """Praise is above, complaint below, and news between them."""
    low, middle, high = bundle.score(
        ["Terrible service, I hate it", "The shop opens at nine on Monday", "Wonderful service, I love it"]
    ).pos_prob
    assert low < 0.2 < middle < 0.8 < high
