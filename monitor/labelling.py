"""Hand-labelled posts of a CSV, scored: from rows of brand, text and label to the sums that correct a brand's days."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from models.corpora import CLASSES, CorpusError, read_own_rows
from monitor.corrections import MIN_LABELS, LabelSums, sums_of
from monitor.parsing import canonical_brand
from monitor.posts import Score

COLUMNS = ("brand", "text", "label")
POSTS_AT_ONCE = 4_096

Labelled = Sequence[tuple[str, float]]  #: texts with their labels as 0, 0.5 or 1
ScoreTexts = Callable[[Sequence[str]], Sequence[Score]]


def read_labels(path: Path, default_brand: str) -> dict[str, Labelled]:
    """The labelled posts of each brand, a blank brand being `default_brand`.

    Raises CorpusError for a missing column, a label of another name or a blank text (with its line), for a brand with
    fewer than MIN_LABELS posts, and for one whose posts all have the same label: it would say nothing about errors.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    for line, row in enumerate(read_own_rows(path), start=2):
        brand, text, label = _fields_of(path, line, row)
        found.setdefault(canonical_brand(brand) or canonical_brand(default_brand), []).append((text, label))
    if not found:
        raise CorpusError(f"{path} has no labelled posts")
    for brand, posts in found.items():
        if len(posts) < MIN_LABELS:
            raise CorpusError(
                f"{path}: brand {brand!r} has {len(posts)} labelled posts; {MIN_LABELS} are needed, 200 are good"
            )
        if len({label for _, label in posts}) == 1:
            raise CorpusError(f"{path}: all posts of brand {brand!r} have one label; a random sample has several")
    return dict(found)


def _fields_of(path: Path, line: int, row: Mapping[str, str | None]) -> tuple[str, str, float]:
    brand, text, label = (row.get(name) for name in COLUMNS)
    if brand is None or text is None or label is None:
        names = ", ".join(name for name in row if name)
        raise CorpusError(f"{path} needs the columns {', '.join(COLUMNS)}; line {line} has {names}")
    if label not in CLASSES:
        raise CorpusError(f"{path} line {line}: label {label!r} is none of {', '.join(CLASSES)}")
    if not text.strip():
        raise CorpusError(f"{path} line {line}: there is no text")
    return brand, text, CLASSES.index(label) / 2


def score_labels(labels: Mapping[str, Labelled], score_texts: ScoreTexts) -> dict[str, LabelSums]:
    """The sums of each brand under the scores that `score_texts` gives."""
    return {
        brand: sums_of(zip((label for _, label in posts), _scores(posts, score_texts), strict=True))
        for brand, posts in labels.items()
    }


def _scores(posts: Labelled, score_texts: ScoreTexts) -> list[float]:
    texts = [text for text, _ in posts]
    starts = range(0, len(texts), POSTS_AT_ONCE)
    return [one.pos_prob for start in starts for one in score_texts(texts[start : start + POSTS_AT_ONCE])]
