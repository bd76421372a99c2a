"""Dividing labelled posts: by the hash of their keys, so that neither order nor machine matters, class by class."""

import hashlib
from collections.abc import Iterable

from models.corpora import CLASSES, Corpus


def stratified_parts(corpus: Corpus, n_parts: int, salt: str) -> list[list[int]]:
    """Rows of `n_parts` parts of equal size, within a row for each class; posts with one key are in one part."""
    order = sorted(
        set(corpus.keys), key=lambda key: hashlib.sha256(f"{salt}:{key}".encode("utf-8", "replace")).digest()
    )
    first_label = dict(zip(reversed(corpus.keys), reversed(corpus.labels), strict=True))
    part_of: dict[str, int] = {}
    for label in range(len(CLASSES)):
        part_of |= {key: i % n_parts for i, key in enumerate(k for k in order if first_label[k] == label)}
    parts: list[list[int]] = [[] for _ in range(n_parts)]
    for row, key in enumerate(corpus.keys):
        parts[part_of[key]].append(row)
    return parts


def fold(corpus: Corpus, split: int, n_parts: int, salt: str) -> tuple[Corpus, Corpus]:
    """(rest, part number `split` of `n_parts`)."""
    parts = stratified_parts(corpus, n_parts, salt)
    return corpus.select(sorted(_others(parts, split))), corpus.select(parts[split])


def _others(parts: list[list[int]], left_out: int) -> Iterable[int]:
    return (row for number, part in enumerate(parts) if number != left_out for row in part)
