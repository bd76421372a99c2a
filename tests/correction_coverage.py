"""How well mean_pos_corrected does on labelled posts: how often its interval holds the human mean, and how the error
falls with the number of labels.

    SENTIMENT_DATA=... python tests/correction_coverage.py | tee tests/correction-coverage.txt

Tweets of SemEval 2016 (the split that the shipped bundle never saw) stand for the posts of a brand. Labels are drawn at
random, corrections computed from the rest, hundreds of times over:

1. days drawn at random from all posts: what the formulas promise, and nothing else;
2. the real days: all tweets of one date are a day, labels come from any date, and the human mean is that day's;
3. topics: each is a brand of its own, labels and days (of 30 posts or more) come from it;
4. days drawn with other class shares than the posts that were labelled: how far the promise carries.

Means are over days and draws. `95%` is the share of intervals that hold the human mean; `without drift` leaves
DAY_DRIFT out of the interval, `raw` is mean_pos with the interval mean_pos_low to mean_pos_high.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.corpora import CLASSES, corpus_of, find_data, load_development, read_rows
from monitor.aggregates import Z95
from monitor.corrections import DAY_DRIFT, Correction, sums_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
N_LABELS = (50, 100, 200, 400)
MIN_POSTS = 30
BUNDLE = Path(__file__).parent.parent / "models" / "bundles" / "social-gru"
HEADINGS = ("posts a day", "labels", "error raw", "corrected", "95% raw", "corrected", "without drift", "width")


class Posts:
    """Labels (0, 0.5, 1) and scores of n posts, with what groups them."""

    def __init__(self, labels: FloatArray, scores: FloatArray, days: IntArray, topics: IntArray) -> None:
        self.labels, self.scores, self.days, self.topics = labels, scores, days, topics

    def __len__(self) -> int:
        return len(self.labels)


def correction_by(posts: Posts, labelled: IntArray) -> Correction:
    """What those labels say."""
    return Correction.of(sums_of(zip(posts.labels[labelled].tolist(), posts.scores[labelled].tolist(), strict=True)))


def judge(posts: Posts, correction: Correction, day: IntArray, human: float | None = None) -> tuple[float, ...]:
    """One day under one set of labels: errors, whether the intervals hold, width. `human`: else the day's own mean."""
    scores = posts.scores[day]
    mean, error = float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(len(scores)))
    human = float(posts.labels[day].mean()) if human is None else human
    full, plain = (correction.correct(mean, len(day), error, drift=drift) for drift in (DAY_DRIFT, 0.0))
    held = (abs(mean - human) <= Z95 * error, full.low <= human <= full.high, plain.low <= human <= plain.high)
    return (abs(mean - human), abs(full.mean - human), *map(float, held), full.high - full.low)


def drawn_days(posts: Posts, n_labels: int, n_posts: int, draws: np.random.Generator, repeats: int) -> FloatArray:
    """Days like the labelled posts; the human mean is that of all posts, the mean behind each day."""
    behind = float(posts.labels.mean())
    found = []
    for _ in range(repeats):
        order = draws.permutation(len(posts))
        day = order[n_labels : n_labels + n_posts]
        found.append(judge(posts, correction_by(posts, order[:n_labels]), day, behind))
    return np.array(found)


def grouped_days(posts: Posts, groups: Sequence[IntArray], n_labels: int, draws: np.random.Generator) -> FloatArray:
    """Labels drawn from all `groups` together; each group's other posts are a day."""
    everyone = np.concatenate(groups)
    labelled = draws.choice(everyone, n_labels, replace=False)
    is_free = np.ones(len(posts), bool)
    is_free[labelled] = False
    rest = [group[is_free[group]] for group in groups]
    correction = correction_by(posts, labelled)
    found = [judge(posts, correction, day) for day in rest if len(day) >= MIN_POSTS]
    return np.array(found).reshape(-1, 6)


def tilted_days(
    posts: Posts, n_labels: int, tilt: float, draws: np.random.Generator, repeats: int, n_posts: int = 200
) -> FloatArray:
    """Days with `tilt` more of the negative posts and less of the positive than the labelled ones have."""
    base = np.array([(posts.labels == value).mean() for value in (0.0, 0.5, 1.0)])
    shares = np.clip(base + tilt * np.array([1, 0, -1]), 0.0, 1.0)
    shares /= shares.sum()
    found = []
    for _ in range(repeats):
        order = draws.permutation(len(posts))
        labelled, rest = order[:n_labels], order[n_labels:]
        counts = draws.multinomial(n_posts, shares)
        parts = [
            rest[posts.labels[rest] == value][:count] for value, count in zip((0.0, 0.5, 1.0), counts, strict=True)
        ]
        found.append(judge(posts, correction_by(posts, labelled), np.concatenate(parts)))
    return np.array(found)


def day_drift(posts: Posts) -> float:
    """Standard deviation from day to day of the model's error, by the analysis of variance of unequal groups.

    (Searle, Casella, McCulloch, Variance Components, 1992, section 3.6.) Errors are label - slope * score.
    """
    errors = posts.labels - correction_by(posts, np.arange(len(posts))).slope * posts.scores
    errors = errors - errors.mean()
    sizes = np.bincount(posts.days)
    sizes, sums = sizes[sizes > 0], np.bincount(posts.days, weights=errors)[sizes > 0]
    between = float((sums**2 / sizes).sum())
    n, k = len(posts), len(sizes)
    within = (float((errors**2).sum()) - between) / (n - k)
    typical = (n - float((sizes.astype(float) ** 2).sum()) / n) / (k - 1)
    return float(np.sqrt(max(0.0, (between / (k - 1) - within) / typical)))


def line(posts_a_day: str, n_labels: int, found: FloatArray) -> str:
    """One row of a table."""
    raw, corrected, held_raw, held, held_plain, width = found.mean(axis=0)
    shares = "".join(f"{share:>{w}.1%}" for share, w in ((held_raw, 9), (held, 11), (held_plain, 15)))
    return f"{posts_a_day:>11}{n_labels:8d}{raw:11.3f}{corrected:11.3f}{shares}{width:8.3f}"


def heading(title: str) -> str:
    """A table's title and column names."""
    return f"\n{title}\n" + "".join(
        f"{name:>{w}}" for name, w in zip(HEADINGS, (11, 8, 11, 11, 9, 11, 15, 8), strict=True)
    )


def tables(posts: Posts, repeats: int) -> Iterator[str]:
    """Every line of the four tables."""
    draws = np.random.default_rng(1)
    yield heading(f"1. Days drawn from all {len(posts):,} posts (human mean: of all)")
    for n_posts in (30, 100, 1_000):
        for n_labels in N_LABELS:
            yield line(str(n_posts), n_labels, drawn_days(posts, n_labels, n_posts, draws, repeats))
    days = _groups(posts.days)
    sizes = sorted(len(day) for day in days if len(day) >= MIN_POSTS)
    yield heading(f"2. Real days: {len(sizes)} dates with {MIN_POSTS} posts or more (human mean: of the day)")
    for n_labels in N_LABELS:
        found = [grouped_days(posts, days, n_labels, draws) for _ in range(max(1, repeats // 10))]
        yield line(f"{sizes[0]}-{sizes[-1]}", n_labels, np.concatenate(found))
    topics = [topic for topic in _groups(posts.topics) if len(topic) >= 2 * MIN_POSTS]
    yield heading(f"3. Real days of a topic: its posts of a date (human mean: of the day), {len(topics)} topics")
    for n_labels in N_LABELS[:2]:
        found = [one for _ in range(max(1, repeats // 10)) for one in _of_topics(posts, topics, n_labels, draws)]
        yield line(f"{MIN_POSTS}+", n_labels, np.concatenate(found))
    yield heading("4. Days of 200 posts with more negative and fewer positive posts than were labelled")
    for tilt in (-0.1, 0.0, 0.1, 0.2):
        yield line(f"{tilt:+.0%}", 200, tilted_days(posts, 200, tilt, draws, repeats))


def _of_topics(
    posts: Posts, topics: Sequence[IntArray], n_labels: int, draws: np.random.Generator
) -> Iterator[FloatArray]:
    for topic in topics:
        days = [topic[posts.days[topic] == day] for day in np.unique(posts.days[topic])]
        if len(topic) >= n_labels + MIN_POSTS:
            yield grouped_days(posts, days, n_labels, draws)


def _groups(key: IntArray) -> list[IntArray]:
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def load_test_posts(folder: Path, bundle: Bundle) -> Posts:
    """The tweets of 2016test with date and topic; a tweet's label is that of its message, joined by id."""
    labels = {
        row["id"]: CLASSES.index(row["label"]) / 2
        for row in read_rows(folder / "semeval_2013_2016.csv.gz")
        if row["split"] == "2016test"
    }
    rows = [row for row in read_rows(folder / "semeval_2016test_topics.csv.gz") if row["id"] in labels]
    days = np.unique([row["created_at"][:10] for row in rows], return_inverse=True)[1]
    topics = np.unique([row["topic"] for row in rows], return_inverse=True)[1]
    scores = bundle.score([row["text"] for row in rows]).pos_prob
    return Posts(np.array([labels[row["id"]] for row in rows]), scores, days, topics)


def load_development_posts(folder: Path, bundle: Bundle) -> Posts:
    """The 3,000 development tweets by which the shipped bundle's training was stopped, with their dates."""
    held = load_development(folder, 3_000)
    dates: dict[str, str] = defaultdict(str)
    for row in read_rows(folder / "semeval_2013_2016.csv.gz"):
        for key in corpus_of([(row["text"], row["label"])]).keys:
            dates[key] = dates[key] or row["created_at"][:10]
    days = np.unique([dates[key] for key in held.keys], return_inverse=True)[1]
    scores = bundle.score(held.texts).pos_prob
    return Posts(np.array(held.labels) / 2, scores, days, np.zeros(len(held), np.int64))


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=500, help="draws of the first and last table")
    repeats = parser.parse_args().repeats
    folder, bundle = find_data(), Bundle.load(BUNDLE, "cpu")
    drift = day_drift(load_development_posts(folder, bundle))
    _say(f"{bundle.name}@{bundle.sha256[:8]}; drift from day to day of the development posts: {drift:.4f}")
    for row in tables(load_test_posts(folder, bundle), repeats):
        _say(row)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
