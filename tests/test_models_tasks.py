"""What the seeds' recipes learn: posts are divided by their keys, and no text of a test is trained on."""

import csv
import functools
import gzip
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_models import labelled_rows, write_labelled

from models.corpora import CLASSES, COMPOSED, Corpus, CorpusError, find_data, load_csv
from models.divisions import stratified_parts
from models.explore import explore
from models.recipe import find_recipe, read_recipe
from models.tasks import N_FOLDS, TASKS, Split, class_indices, load_task

Row = tuple[str, ...]


def write_gzip(path: Path, columns: Row, rows: Sequence[Row]) -> None:
    """A gzipped CSV as the public corpora are."""
    with gzip.open(path, "wt", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def sided(n: int, seed: int) -> list[tuple[str, str]]:
    """(text, label) rows of two classes."""
    return [row for row in labelled_rows(3 * n, seed) if row[1] != "neutral"][:n]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small corpus for each task, in which copies hide."""
    folder = tmp_path_factory.mktemp("data")
    reviews, tested = sided(200, 1), [(f"{text} seen", label) for text, label in sided(100, 2)]
    copied = [(tested[0][0].upper() + "!<br />", tested[0][1]), (reviews[1][0] + "...", reviews[1][1])]
    columns = ("id", "label", "text")
    write_gzip(folder / "imdb_train.csv.gz", columns, [("1", label, text) for text, label in [*reviews, *copied]])
    write_gzip(folder / "imdb_test.csv.gz", columns, [("1", label, text) for text, label in [*tested, tested[3]]])
    tweets = sided(200, 3)
    tweets.append((f"@you {tweets[0][0]} http://t.co/x", tweets[0][1]))
    rows = [(label, text, "random") for text, label in tweets] + [("positive", "early and late", "head_tail")]
    write_gzip(folder / "sentiment140_sample.csv.gz", ("label", "text", "part"), rows)
    emoticons = [(label, f"{text} :x") for text, label in sided(40, 8)]
    write_gzip(folder / "emoticon2011.csv.gz", ("label", "text"), emoticons)
    seed_rows = [("1", label, text) for text, label in labelled_rows(200, 4)]
    seed_rows += [("2", "negative", "Not Available"), ("Id", "Tweet", "Category"), ("3", "positive", " ")]
    write_gzip(folder / "idcattweet_train.csv.gz", ("Id", "Category", "Tweet"), seed_rows)
    years = [("2013train", label, "0", text) for text, label in labelled_rows(200, 5)]
    years += [("2016train", "positive", "0", "too late"), ("2015test", "positive", "1", "validated")]
    years += [("2016test", label, "0", f"{text} in the test") for text, label in labelled_rows(50, 6)]
    years.append(("2014test", "neutral", "0", labelled_rows(50, 6)[0][0].upper() + " in the TEST @you"))
    write_gzip(folder / "semeval_2013_2016.csv.gz", ("split", "label", "in_tweeteval_val", "text"), years)
    reviews3 = [(text, label, "uci_yelp") for text, label in sided(100, 7)]
    write_gzip(folder / "uci_sentences.csv.gz", ("text", "label", "source"), reviews3)
    for i, name in enumerate(
        ("crowdflower_dfe", "goemotions", "sanders", "sst5_sentences", "tweet_sentiment_extraction")
    ):
        of_source = [(f"{name} {text}", label) for text, label in labelled_rows(40, 10 + i)]
        write_gzip(folder / f"{name}.csv.gz", ("text", "label"), of_source)
    alike = [(text, label, str(n // 5)) for n, (text, label) in enumerate(labelled_rows(100, 20))]
    write_gzip(folder / "twitter_entity.csv.gz", ("text", "label", "source"), alike)
    return folder


@functools.cache
def loaded(name: str, data: Path, number: int = 0) -> Split:
    """A division, read once: that of `social` composes 100,000 posts."""
    return load_task(name, data, number)


def keys(split: Split) -> list[set[str]]:
    """Keys of the posts to train on, to choose by, and to test on."""
    return [set(corpus.keys) for corpus in (split.train, split.development, split.read_test())]


def test_the_task_social_has_the_files_of_the_shipped_recipes_last_stage(data: Path) -> None:
    """What it asks for, and has hashes of, is what the recipe draws now; generated posts are in no file."""
    plan = read_recipe(find_recipe("social-gru"))
    assert COMPOSED in plan.stages[-1].posts
    assert len(loaded("social", data).hashes) == len(plan.stages[-1].posts) - 1


@pytest.mark.parametrize("name", TASKS)
def test_no_text_is_on_two_sides(data: Path, name: str) -> None:
    """In every division of every task, and every side has posts of every class of the task."""
    for number in range(TASKS[name].n_splits):
        split = loaded(name, data, number)
        train, development, test = keys(split)
        assert not train & development
        assert not (train | development) & test
        for corpus in (split.train, split.development, split.read_test()):
            assert set(class_indices(corpus, split.classes).tolist()) == set(range(len(split.classes)))
        assert set(split.hashes) == set(TASKS[name].files())


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.n_splits > 1])
def test_each_post_is_tested_once(data: Path, name: str) -> None:
    """The divisions' test parts are all posts, each once, with the shares of the classes alike."""
    tests = [load_task(name, data, number).read_test() for number in range(N_FOLDS)]
    everything = [key for corpus in tests for key in corpus.keys]
    first = load_task(name, data)
    assert sorted(everything) == sorted([*first.train.keys, *first.development.keys, *first.read_test().keys])
    assert len(everything) == len(set(everything))
    counts = [Counter(corpus.labels) for corpus in tests]
    for label in counts[0]:
        assert max(count[label] for count in counts) - min(count[label] for count in counts) <= 1


def test_published_halves_stay_what_they_are(data: Path) -> None:
    """All of the test half counts, repeats too; what is in it, or said twice, is trained on not at all, or once."""
    split = load_task("imdb", data)
    assert len(split.read_test()) == 101
    assert len(split.train) + len(split.development) == 200
    assert abs(len(split.development) - 20) <= 1


def test_only_the_random_part_of_sentiment140_counts(data: Path) -> None:
    """The early and late tweets stay out; a near-copy counts once."""
    split = load_task("sentiment140", data)
    posts = [*split.train.texts, *split.development.texts, *split.read_test().texts]
    assert len(posts) == 200
    assert "early and late" not in posts


def test_rows_without_a_tweet_are_left_out(data: Path) -> None:
    """Deleted tweets, empty ones and the header in the middle of the seed's file."""
    split = load_task("tweets3", data)
    posts = {*split.train.texts, *split.development.texts, *split.read_test().texts}
    assert posts == {text for text, _ in labelled_rows(200, 4)}


def test_2016test_and_its_copies_are_not_trained_on(data: Path) -> None:
    """2013 to 2015 alone, without what is in the test or in the validation half."""
    split = load_task("semeval", data)
    posts = {*split.train.texts, *split.development.texts}
    assert posts == {text for text, _ in labelled_rows(200, 5)}
    assert len(split.read_test()) == 50


def test_posts_of_a_task_are_explored(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be trained on, without the test posts."""
    monkeypatch.setenv("SENTIMENT_DATA", str(data))
    assert explore("imdb").posts == 200
    found = explore("tweets3")
    assert sum(found.shares.values()) == pytest.approx(1)
    assert abs(found.posts - 160) <= 2


def test_order_does_not_matter() -> None:
    """The same posts fall into the same parts when the file is in another order."""
    rows = labelled_rows(60)
    corpus = Corpus(*zip(*((text, CLASSES.index(label), text) for text, label in rows), strict=True))
    turned = corpus.select(reversed(range(len(corpus))))
    parts = [[{c.keys[i] for i in part} for part in stratified_parts(c, 5, "x")] for c in (corpus, turned)]
    assert parts[0] == parts[1]
    assert stratified_parts(corpus, 5, "y") != stratified_parts(corpus, 5, "x")


@pytest.mark.parametrize(
    ("rows", "classes"),
    [(labelled_rows(300), CLASSES), (sided(200, 1), ("negative", "positive"))],
    ids=["three", "two"],
)
def test_own_posts_replace_those_of_the_task(tmp_path: Path, rows: list[tuple[str, str]], classes: Row) -> None:
    """A CSV of one's own: a fifth tests, a tenth of the rest chooses; two classes where there are two."""
    split = load_task("imdb", write_labelled(tmp_path / "mine.csv", rows))
    assert split.classes == classes
    sizes = [len(side) for side in keys(split)]
    assert sum(sizes) == len(rows)
    assert abs(sizes[2] - len(rows) / 5) <= 2
    assert set(split.hashes) == {"mine.csv"}


BAD: dict[str, tuple[str, str]] = {
    "one side only": ("text,label\n" + "fine {0},positive\nopen {0},neutral\n" * 60, "no negative"),
    "one class only": ("text,label\nfine,positive\n", "fewer than two classes"),
    "an unknown label": ("text,label\nfine,good\n", "line 2: label 'good' is none of negative, neutral, positive"),
    "an empty text": ("text,label\nfine,positive\n  ,negative\n", "line 3: the text is empty"),
    "a cut row": ("text,label\nfine,positive\nba", "line 3: it is cut off"),
    "a long row": ("text,label\nfine,positive\nbad, really,negative\n", "' really' is none of .*; a text with a comma"),
    "semicolons": ("text;label\nnice, really;positive\n", "commas must part them, not semicolons"),
    "no label column": ("text,mood\nfine,positive\n", "needs the columns text and label; it has text, mood"),
    "too few": ("text,label\nfine,positive\nbad,negative\n", "training needs at least 100"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_unusable_posts_are_told_in_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    """Before any time is spent, with the line where there is one."""
    path = tmp_path / "mine.csv"
    path.write_text(re.sub(r"\{0\}", lambda match: str(match.start()), content))
    with pytest.raises(CorpusError, match=message):
        load_task("sentiment140", path)


def test_headers_are_read_in_any_case(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With blanks around them, as those of the drop folder; posts that a reader takes for equal are told."""
    path = tmp_path / "mine.csv"
    path.write_text(" Text , LABEL\ngood,positive\nbad,negative\nGood 😀,positive\n", encoding="utf-8")
    assert load_csv(path).texts == ("good", "bad")
    assert "of 3 posts in mine.csv 1 have the letters and digits of an earlier one" in caplog.text
    path.write_text("text,label,Label,\ngood,positive,3,\nbad,negative,5,\n", encoding="utf-8")
    assert load_csv(path).texts == ("good", "bad")


def test_unknown_tasks_and_splits_are_told(data: Path, tmp_path: Path) -> None:
    """With the names there are, and the file that is missing."""
    with pytest.raises(CorpusError, match="no task is called imbd; there are imdb, semeval"):
        load_task("imbd", data)
    with pytest.raises(CorpusError, match="numbered from 0: there is no number 5"):
        load_task("uci", data, 5)
    with pytest.raises(CorpusError, match=r"uci needs uci_sentences\.csv\.gz in"):
        load_task("uci", tmp_path)


def test_a_truncated_corpus_is_told(data: Path, tmp_path: Path) -> None:
    """A download that broke off."""
    whole = (data / "uci_sentences.csv.gz").read_bytes()
    (tmp_path / "uci_sentences.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match="cannot be read"):
        load_task("uci", tmp_path)


@pytest.mark.skipif(
    not Path(os.environ.get("SENTIMENT_DATA", "../shared/data")).is_dir(), reason="needs the corpora (SENTIMENT_DATA)"
)
def test_the_seeds_own_file_has_the_rows_it_had() -> None:
    """5,970 rows less 548 deleted tweets and a header; near-copies count once."""
    split = load_task("tweets3", find_data())
    n_posts = len(split.train) + len(split.development) + len(split.read_test())
    assert 5_000 < n_posts <= 5_970 - 548 - 1
