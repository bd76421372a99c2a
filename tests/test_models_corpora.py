"""The public corpora: what is left out stays out, and a whole training and evaluation runs over them."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tiny_models import RECIPE, labelled_rows, one_thread

from models.corpora import SET_ASIDE, CorpusError, hold_out, load_set_aside, load_sources, load_test
from models.evaluate import evaluate, load_report, save_report
from models.left_out import digest_of, mark_others
from models.manifest import read_manifest
from models.protocol import without_source
from models.recipe import RecipeError, read_recipe
from models.train import train
from models.training_posts import load_posts

STAGES = """development_posts: 40
stages:
  - name: broad
    epochs: 1
    learning_rate: 0.02
    posts: {tweet_extraction: 200, sentiment140: 100}
    weights: {sentiment140: 0.5}
  - {name: close, epochs: 2, learning_rate: 0.02, posts: {semeval: 150}}
"""


def write_gzip(path: Path, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A gzipped CSV as the public corpora are."""
    with gzip.open(path, "wt", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Training on one thread."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small corpora, in which a test tweet hides among the training tweets of another source."""
    folder = tmp_path_factory.mktemp("data")
    tweets = labelled_rows(300, seed=1)
    tested = [(f"@you {text} tested", label) for text, label in labelled_rows(60, seed=2)]
    rows = [("2013train", label, "0", text) for text, label in tweets]
    rows += [("2015train", label, "1", f"{text} validation") for text, label in tweets[:20]]
    rows += [("2016dev", label, "0", f"{text} later") for text, label in tweets[:60]]
    rows += [("2016test", label, "0", text) for text, label in tested]
    write_gzip(folder / "semeval_2013_2016.csv.gz", ("split", "label", "in_tweeteval_val", "text"), rows)
    others = [*labelled_rows(300, seed=3), (tested[0][0].upper() + " http://t.co/x", tested[0][1])]
    write_gzip(folder / "tweet_sentiment_extraction.csv.gz", ("text", "label"), others)
    sided = [row for row in labelled_rows(200, seed=4) if row[1] != "neutral"]
    write_gzip(folder / "sentiment140_sample.csv.gz", ("text", "label"), sided)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages over three sources."""
    path = tmp_path_factory.mktemp("recipe") / "two.yaml"
    path.write_text(RECIPE.split("stages:")[0] + STAGES)
    return path


def test_test_tweets_and_validation_tweets_stay_out(data: Path) -> None:
    """No source holds a text of 2016test, not even as a near-copy, nor a row that is in tweeteval_val."""
    kept_out = set(load_test(data).keys)
    sources = load_sources(data, ["semeval", "tweet_extraction", "sentiment140"])
    assert len(kept_out) == 60
    assert not any(kept_out & set(corpus.keys) for corpus in sources.values())
    assert len(sources["tweet_extraction"]) == 300
    assert not any("validation" in text for text in sources["semeval"].texts)


def test_rows_that_say_something_else_than_a_feeling_stay_out(tmp_path: Path) -> None:
    """Of crowdflower those about a scandal, whose "positive" means that somebody cheated; they are measured apart."""
    names = ("dfe_apple", *SET_ASIDE["crowdflower"])
    rows = [(f"post {i} of {name}", "positive", name) for i, name in enumerate(names)]
    rows += [("post 0 of dfe_apple", "negative", names[1])]  # also among those that stay
    write_gzip(tmp_path / "crowdflower_dfe.csv.gz", ("text", "label", "source"), rows)
    write_gzip(tmp_path / "semeval_2013_2016.csv.gz", ("split", "label", "text"), [])
    assert load_sources(tmp_path, ["crowdflower"])["crowdflower"].texts == ("post 0 of dfe_apple",)
    assert load_set_aside(tmp_path, "crowdflower").texts == ("post 1 of dfe_deflategate", "post 2 of dfe_other")
    assert not len(load_set_aside(tmp_path, "semeval"))


def test_development_posts_are_in_no_source(data: Path, recipe: Path) -> None:
    """What early stopping and calibration see is trained on nowhere."""
    _, posts, hashes = load_posts(read_recipe(recipe), data)
    assert len(posts.development) == 40
    assert not any(set(posts.development.keys) & set(corpus.keys) for corpus in posts.training.values())
    assert not any("later" in text for text in posts.development.texts), "of 2013 to 2015"
    assert set(hashes) == {path.name for path in data.iterdir()} | {"plain_posts.csv", "hard_posts.csv"}


def test_holding_out_does_not_depend_on_order(data: Path) -> None:
    """The same posts are held out when the file is in another order."""
    corpus = load_sources(data, ["semeval"])["semeval"]
    turned = corpus.select(reversed(range(len(corpus))))
    assert set(hold_out(corpus, 30)[1].keys) == set(hold_out(turned, 30)[1].keys)


@pytest.mark.long
def test_training_over_the_corpora_reports_on_the_test_split(data: Path, recipe: Path, tmp_path: Path) -> None:
    """Stages over mixtures, one source without neutral posts: the report has 2016test and both baselines."""
    folder = train(recipe, data, tmp_path / "two")
    report = load_report(folder)
    assert report["headline_set"] == "2016test"
    assert set(report["sets"]["2016test"]) == {"network", "bag of words", "VADER"}
    assert report["sets"]["2016test"]["network"]["macro_recall"] > 0.9
    assert {"plain_posts", "hard_posts"} < set(report["sets"])
    history = read_manifest(folder).trained["history"]
    assert [entry["stage"] for entry in history] == ["broad", "close", "close"]
    figures = {"posts": 1, "two_class_accuracy": 0.5, "interval": [0.4, 0.6], "left_out": ["uci"], "scale": "full"}
    save_report(folder, report | {"hold_out": {"uci": figures | {"recipe_sha256": "of another"}}})
    again = evaluate(folder, data)
    assert again["sets"] == report["sets"]
    assert again["hold_out"]["uci"]["other_recipe"]


@pytest.mark.long
def test_a_small_training_draws_a_third_of_the_posts(data: Path, recipe: Path, tmp_path: Path) -> None:
    """Its bundle and card say so, and the whole of it is measured like a full one's."""
    folder = train(recipe, data, tmp_path / "small", scale="small")
    trained = read_manifest(folder).trained
    whole = read_recipe(recipe).stages
    for small, full in zip(trained["recipe"]["stages"], whole, strict=True):
        assert small["posts"] == {name: round(n / 3) for name, n in full.posts.items()}
    assert trained["scale"] == "small"
    digest = digest_of(without_source(read_recipe(recipe), ["tweet_extraction"], "small"))
    one = {"recipe_sha256": digest, "left_out": ["tweet_extraction"], "scale": "small"}
    assert mark_others({"tweet_extraction": one}, trained) == {"tweet_extraction": one}  # of the same recipe
    assert "--scale small`, seed" in (folder / "README.md").read_text(encoding="utf-8")
    assert load_report(folder)["headline_set"] == "2016test"


def test_of_a_csv_all_posts_are_learnt(tmp_path: Path) -> None:
    """There is no small training of few posts."""
    path = tmp_path / "mine.csv"
    path.write_text("text,label\n")
    with pytest.raises(RecipeError, match="of a CSV social-gru learns all posts: --scale has no use"):
        train("social-gru", path, tmp_path / "small", scale="small")


def test_unknown_corpus_lists_those_there_are(data: Path) -> None:
    """A recipe that names a corpus nobody knows is refused with the names."""
    with pytest.raises(CorpusError, match="emoticon2011"):
        load_sources(data, ["semeval", "nowhere"])


def test_missing_file_is_named(data: Path) -> None:
    """A corpus whose file is not in the folder is named."""
    with pytest.raises(CorpusError, match=r"goemotions\.csv\.gz"):
        load_sources(data, ["goemotions"])
