"""The protocol's measures: nothing straddles a split, shares are found without labels, floors and intervals hold."""

import csv
import gzip
import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import RECIPE, one_thread, write_corpora, write_rows

from models.brand_days import DatedPosts, correct_by_brand, load_dated, measure_days
from models.calibration_figures import measure_calibration
from models.card_sections import sections
from models.class_shares import correct, estimate_shares, positivity
from models.corpora import CorpusError, corpus_of, load_sources
from models.hold_out_source import measure_without
from models.holdouts import split
from models.intervals import basic_interval_of, interval_of
from models.left_out import mark_others
from models.measures import FloatArray, IntArray, macro_recall
from models.near_copies import NearCopies
from models.protocol import epoch_of, intervals, origin_of, sided_accuracy, without_source
from models.recipe import NetworkPlan, Recipe, RecipeError, read_recipe
from models.training_posts import load_posts

UNIFORM = np.full(3, 1 / 3)


def calibrated(n: int, shares: list[float], seed: int = 1) -> tuple[IntArray, FloatArray]:
    """Labels with these shares, and the probabilities of a perfect model for equal shares."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(3, n, p=shares)
    signal = truth[:, None] + generator.normal(size=(n, 1))
    likelihood = np.exp(-0.5 * (signal - np.arange(3)) ** 2)
    return truth, likelihood / likelihood.sum(axis=1, keepdims=True)


def test_recalls_are_of_the_classes_that_occur() -> None:
    """Posts without neutral ones have the mean of two recalls, and the interval is around it."""
    truth = np.array([0, 2] * 50)
    probabilities = np.where(truth[:, None] == np.arange(3), 0.8, 0.1)
    probabilities[:10] = probabilities[:10, ::-1]
    assert macro_recall(truth, probabilities.argmax(axis=1), 3) == pytest.approx(0.9)
    low, high = intervals(truth, probabilities)["macro_recall"]
    assert 0.8 < low < 0.9 < high < 1


@pytest.mark.long  # a simulation
def test_shares_are_found_without_labels() -> None:
    """Plain EM finds the shares of many posts, whatever they are, and corrected probabilities then add up to them."""
    for shares in ([0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.34, 0.33, 0.33]):
        truth, probabilities = calibrated(40_000, shares)
        found = estimate_shares(probabilities)
        assert found == pytest.approx(np.bincount(truth) / len(truth), abs=0.015)
        assert correct(probabilities, found).mean(axis=0) == pytest.approx(found, abs=1e-6)


@pytest.mark.long  # a simulation
def test_a_prior_holds_few_posts_back() -> None:
    """Few posts get about the prior's shares, many about those that plain EM finds."""
    prior = np.array([0.1, 0.6, 0.3])

    def distances(n: int) -> tuple[float, float]:
        _, probabilities = calibrated(n, [0.6, 0.1, 0.3])
        found = estimate_shares(probabilities, prior)
        return float(np.abs(found - prior).max()), float(np.abs(found - estimate_shares(probabilities)).max())

    to_prior, to_plain = distances(5)
    assert to_prior < 0.1 * to_plain
    to_prior, to_plain = distances(40_000)
    assert to_plain < 0.1 * to_prior


def test_equal_shares_change_nothing() -> None:
    """Probabilities are for equal shares already."""
    _, probabilities = calibrated(100, [0.2, 0.3, 0.5])
    assert correct(probabilities, UNIFORM) == pytest.approx(probabilities)


@pytest.mark.long  # a simulation
def test_a_perfect_model_has_the_floor_as_its_error() -> None:
    """Its ECE is about the floor; that of an overconfident one is far above its own, and so is the interval."""
    truth, probabilities = calibrated(6_000, [0.2, 0.5, 0.3])
    sharp = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    good, bad = measure_calibration(truth, probabilities), measure_calibration(truth, sharp)
    for name in ("negative", "neutral", "positive", "pos_prob"):
        assert good[name]["ece"] < 2 * good[name]["floor"]
        assert good[name]["floor"] < 0.02
    assert bad["negative"]["interval"][0] > bad["negative"]["floor"]
    assert bad["posts"] == 6_000
    unlike = np.roll(truth, 1)  # the floor is that of the probabilities, whatever the labels are
    assert measure_calibration(unlike, probabilities)["neutral"]["floor"] == good["neutral"]["floor"]


@pytest.mark.long  # a simulation
def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """About 95 of 100 intervals of a mean hold it; whole groups give wider ones where groups differ."""
    generator = np.random.default_rng(2)
    hits = sum(
        low <= 0.3 <= high for low, high in (interval_of(np.mean, generator.random(200) < 0.3) for _ in range(60))
    )
    assert hits >= 52
    groups = np.repeat(np.arange(20), 30)
    values = generator.normal(size=20)[groups] + 0.1 * generator.normal(size=600)
    rows, whole = interval_of(np.mean, values), interval_of(np.mean, values, groups=groups)
    assert whole[1] - whole[0] > 3 * (rows[1] - rows[0])
    low, high = basic_interval_of(lambda column: abs(column.mean()), generator.normal(size=100), resamples=200)
    assert 0.0 <= low <= high


def test_near_copies_are_found_and_others_are_not() -> None:
    """A post with another ending, other links and case is a near-copy; one on the same matter is none."""
    near = NearCopies(
        ["The new phone from Acme is out on Monday, says the firm https://a.example/1", "good morning all"]
    )
    assert near.has("RT the NEW phone from acme is out on monday says a friend https://b.example/2")
    assert near.has("@ann Good morning all!")
    assert not near.has("On Monday the firm Acme brings out a phone that is new")
    assert near.without(["good morning", "good morning all"]) == [0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpora as `write_corpora` makes them."""
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe with a random hold-out."""
    path = tmp_path_factory.mktemp("recipe") / "held.yaml"
    held = "development_posts: 60\ncalibration_posts: 40\nmeasuring_posts: 80\n"
    stage = "  - {name: only, epochs: 3, learning_rate: 0.02, posts: {semeval: 90, tweet_extraction: 60}}\n"
    path.write_text(RECIPE.split("stages:")[0] + held + "stages:\n" + stage)
    return read_recipe(path)


def test_near_copies_never_straddle_the_split(data: Path, plan: Recipe) -> None:
    """Parts have the size asked for, share no key, and no training post is a near-copy of one held out."""
    posts = split(plan, data)
    parts = [posts.development, posts.calibration, posts.measuring]
    assert [len(part) for part in parts] == [60, 40, 80]
    keys = [key for part in (*parts, *posts.training.values()) for key in part.keys]
    copied = set(posts.training["semeval"].keys) & set(posts.training["tweet_extraction"].keys)
    assert len(keys) == len(set(keys)) + len(copied)
    near = NearCopies(text for part in parts for text in part.texts)
    assert not any(near.has(text) for corpus in posts.training.values() for text in corpus.texts)
    fitted = NearCopies((*posts.development.texts, *posts.calibration.texts))
    copy = next(i for i, text in enumerate(posts.measuring.texts) if not fitted.has(text))
    texts = (*posts.calibration.texts[:1], *posts.measuring.texts[copy : copy + 1])
    measured = corpus_of([(f"rt {text}", "neutral") for text in texts])
    cleared = replace(posts, measuring=measured, measured_sources={"semeval": measured}).cleared()
    assert cleared.measuring.texts == cleared.measured_sources["semeval"].texts == (f"rt {texts[1]}",)
    assert (cleared.training, cleared.calibration) == (posts.training, posts.calibration)
    assert len(posts.training["tweet_extraction"]) < 450 - len(copied)
    assert split(plan, data).measuring == posts.measuring
    by_source = posts.measured_sources
    assert set(by_source) == {"semeval", "tweet_extraction"}
    assert {key for corpus in by_source.values() for key in corpus.keys} == set(posts.measuring.keys)


def test_near_copies_are_left_out_without_a_random_hold_out(data: Path, plan: Recipe) -> None:
    """Also where the development posts are all that is held out."""
    posts = split(replace(plan, calibration_posts=0, measuring_posts=0), data)
    near = NearCopies(posts.development.texts)
    assert not any(near.has(text) for corpus in posts.training.values() for text in corpus.texts)


def test_a_recipe_that_holds_out_all_posts_of_a_source_is_refused(data: Path, plan: Recipe) -> None:
    """In words, before any network is made."""
    with pytest.raises(CorpusError, match="of semeval, tweet_extraction all posts are held out"):
        load_posts(replace(plan, measuring_posts=100_000), data)
    with pytest.raises(RecipeError, match="stage only has no posts without semeval, tweet_extraction"):
        without_source(plan, ["semeval", "tweet_extraction"])


def test_a_source_left_out_leaves_no_near_copy(data: Path, plan: Recipe) -> None:
    """Neither the source nor a near-copy of its posts is trained on, and the training is smaller."""
    small = without_source(plan, origin_of("tweet_extraction"))
    assert dict(small.stages[0].posts) == {"semeval": 50}  # a third of 90 and of the 60 that are left out
    assert (small.stages[0].epochs, small.fresh_epochs) == (3, 2)
    for own, fresh in ((1, 1), (3, 2)):
        assert without_source(replace(plan, fresh_epochs=own), ["tweet_extraction"]).fresh_epochs == fresh
    whole = without_source(plan, origin_of("tweet_extraction"), "full")
    assert (dict(whole.stages[0].posts), whole.stages[0].epochs, whole.fresh_epochs) == ({"semeval": 150}, 3, 0)
    teacher = without_source(replace(plan, network=NetworkPlan(kind="sentence_encoder")), ["tweet_extraction"])
    assert (dict(teacher.stages[0].posts), teacher.stages[0].epochs, teacher.fresh_epochs) == ({"semeval": 150}, 1, 0)
    assert without_source(replace(plan, network=teacher.network), ["tweet_extraction"], "full").stages[0].epochs == 3
    posts = split(small, data, ("tweet_extraction",))
    near = NearCopies(posts.left_out["tweet_extraction"].texts)
    assert set(posts.training) == {"semeval"}
    assert 300 < len(posts.training["semeval"]) < 450
    assert not any(near.has(text) for text in posts.training["semeval"].texts)
    assert [len(corpus) for corpus in epoch_of(small, posts)] == [50]


def test_without_semeval_other_posts_stop_the_training(data: Path, plan: Recipe) -> None:
    """As many random ones, neither trained nor calibrated on; a source of two classes cannot give them."""
    posts = split(without_source(plan, ["semeval"]), data, ("semeval",))
    parts = [posts.development, posts.calibration, posts.training["tweet_extraction"]]
    assert [len(part) for part in parts[:2]] == [60, 40]
    assert not posts.measuring
    keys = [key for part in parts for key in part.keys]
    assert len(keys) == len(set(keys))
    near = NearCopies(posts.left_out["semeval"].texts)
    assert not any(near.has(text) for part in parts for text in part.texts)
    stage = replace(plan.stages[0], posts={"semeval": 1, "sentiment140": 1})
    with pytest.raises(CorpusError, match="no posts of all three classes are left"):
        split(replace(plan, stages=(stage,)), data, ("semeval",))


def test_a_left_out_source_is_measured_on_a_bundle_that_is_kept(data: Path, tmp_path: Path) -> None:
    """The first call trains without the source, the second does not train again; another recipe does."""
    stage = "  - {name: only, epochs: 1, learning_rate: 0.02, posts: {semeval: 90, tweet_extraction: 60}}\n"
    recipe = tmp_path / "held.yaml"
    recipe.write_text(RECIPE.split("stages:")[0] + "development_posts: 60\nstages:\n" + stage)
    with one_thread():
        found = measure_without("tweet_extraction", data, tmp_path / "out", recipe)
        manifest = tmp_path / "out" / "tiny-without-tweet_extraction" / "manifest.json"
        made_at = manifest.stat().st_mtime_ns
        assert measure_without("tweet_extraction", data, tmp_path / "out", recipe) == found
        assert manifest.stat().st_mtime_ns == made_at
        recipe.write_text(recipe.read_text().replace("seed: 5", "seed: 6"))
        measure_without("tweet_extraction", data, tmp_path / "out", recipe)
    assert manifest.stat().st_mtime_ns != made_at
    assert found["left_out"] == ["sentiment140", "tweet_extraction"]
    trained = {"recipe": asdict(read_recipe(recipe))}
    assert mark_others({"tweet_extraction": found}, trained) == {"tweet_extraction": found}
    assert "teacher" not in found
    assert found["posts"] > 200
    labels = Counter(load_sources(data, ["tweet_extraction"])["tweet_extraction"].labels)
    right = sum(found["by_side"][side] * labels[label] for label, side in ((0, "negative"), (2, "positive")))
    assert right / found["posts"] == pytest.approx(found["two_class_accuracy"])
    assert found["interval"][0] <= found["two_class_accuracy"] <= found["interval"][1]
    with pytest.raises(CorpusError, match="emoticon2011"):
        measure_without("nowhere", data, tmp_path / "out", recipe)


def test_a_left_out_source_is_trained_without_again_where_its_data_are_others(data: Path, tmp_path: Path) -> None:
    """SemEval gives no development posts where it is left out: all of it is measured."""
    recipe, corpora = tmp_path / "held.yaml", tmp_path / "corpora"
    stage = "  - {name: only, epochs: 1, learning_rate: 0.02, posts: {semeval: 90, tweet_extraction: 60}}\n"
    recipe.write_text(RECIPE.split("stages:")[0] + "development_posts: 60\nstages:\n" + stage)
    shutil.copytree(data, corpora)
    with one_thread():
        found = measure_without("semeval", corpora, tmp_path / "out", recipe)
        everything = load_sources(corpora, ["semeval"])["semeval"]
        assert found["posts"] == sum(label != 1 for label in everything.labels)
        manifest = tmp_path / "out" / "tiny-without-semeval" / "manifest.json"
        made_at = manifest.stat().st_mtime_ns
        path = corpora / "tweet_sentiment_extraction.csv.gz"
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        write_rows(path, [*rows, ["one post more", "neutral", "x"]])
        measure_without("semeval", corpora, tmp_path / "out", recipe)
    assert manifest.stat().st_mtime_ns != made_at


def test_daily_means_are_compared_with_the_human_ones(data: Path) -> None:
    """Labels come by id; a perfect model's difference is the noise of a day; a biased one is helped by correction."""
    dated = load_dated(data)
    assert len(dated.texts) == 120
    assert set(dated.days) == {"2016-07-01", "2016-07-02"}
    truth, probabilities = calibrated(8_000, [0.1, 0.6, 0.3])
    brands = [f"brand{i % 20}" for i in range(8_000)]
    posts = DatedPosts(brands, [str(i // 20 % 10) for i in range(8_000)], [""] * 8_000, truth)
    days = measure_days(posts, probabilities, np.array([0.2, 0.4, 0.4]))
    assert (days["brand_days"], days["brands"], days["posts"]) == (200, 20, 8_000)
    assert days["plain_em"]["mean_difference"] < days["raw"]["mean_difference"]
    assert days["corrected"]["mean_difference"] < 1.3 * days["perfect_model"]["mean_difference"]
    low, high = days["raw"]["interval"]
    assert low < days["raw"]["mean_difference"] < high
    mean = positivity(correct_by_brand(brands, probabilities, None)).mean()
    assert mean == pytest.approx(truth.mean() / 2, abs=0.02)


def test_each_side_is_measured_on_its_own_posts() -> None:
    """Neutral posts have none; of a network that calls every post negative, and of one that does so of three."""
    corpus = corpus_of([("a", "negative"), ("b", "negative"), ("c", "negative"), ("d", "positive"), ("e", "neutral")])
    found = sided_accuracy(lambda texts: np.tile([0.7, 0.2, 0.1], (len(texts), 1)), corpus)
    assert (found["posts"], found["two_class_accuracy"]) == (4, 0.75)
    assert found["by_side"] == {"negative": 1.0, "positive": 0.0}
    found = sided_accuracy(lambda texts: np.array([[0.1, 0.0, 0.9] if t in "cd" else [1, 0, 0] for t in texts]), corpus)
    assert found["by_side"] == {"negative": pytest.approx(2 / 3), "positive": 1.0}


def test_sections_show_what_was_measured() -> None:
    """Each figure has its table; without figures there is none."""
    truth, probabilities = calibrated(2_000, [0.2, 0.5, 0.3])
    network = {"intervals": {"accuracy": [0.1, 0.2], "macro_recall": [0.3, 0.4]}}
    report = {
        "sets": {"hard_posts": {"network": network}},
        "calibration": {"2016test": measure_calibration(truth, probabilities)},
        "hold_out": {
            "uci": {
                "posts": 1234,
                "two_class_accuracy": 0.876,
                "interval": [0.86, 0.89],
                "by_side": {"negative": 0.95, "positive": 0.72},
                "teacher": {"recipe": "own", "posts": 1234, "two_class_accuracy": 0.9, "interval": [0.88, 0.92]},
                "scale": "full",
            },
            "sanders": {"posts": 99, "two_class_accuracy": 0.8, "interval": [0.7, 0.9]},
        },
        "in_training": {"uci": {"posts": 56, "two_class_accuracy": 0.9, "interval": [0.8, 0.95]}},
    }
    text = "\n\n".join(sections(report, {"hard_posts": "hard posts", "2016test": "SemEval 2016test"}))
    assert "| hard posts | 0.100 to 0.200 | 0.300 to 0.400 |  |" in text
    assert "| SemEval 2016test | 2,000 | pos_prob |" in text
    mean = "0.838 | 0.787 to 0.888"  # 0.838 - hypot(0.016, 0.1) / 2, 0.838 + hypot(0.014, 0.1) / 2
    assert f"| mean of these sources |  |  | {mean} |  |  |  |  |  |  |  |  |" in text  # one teacher is not known
    assert "| sanders | small | 99 | 0.800 | 0.700 to 0.900 |  |  |  |  |  |  |  |  |" in text
    sides, taught_by = "| 0.950 | 0.720 |", " own | 0.900 | 0.880 to 0.920 |"
    assert f"| uci | full | 1,234 | 0.876 | 0.860 to 0.890 {sides}{taught_by} 56 | 0.900 | 0.800 to 0.950 |" in text
    del report["hold_out"]["sanders"]
    text = "\n\n".join(sections(report, {"hard_posts": "hard posts", "2016test": "SemEval 2016test"}))
    assert "| mean of these sources |  |  | 0.876 | 0.860 to 0.890 |  |  |  | 0.900 | 0.880 to 0.920 |  |  |  |" in text
    assert "*" not in text
    assert "Among as many posts of either side" in text
    assert not list(sections({"sets": {"own": {"network": {}}}}, {}))
