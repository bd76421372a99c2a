"""Confident mistakes in groups that say what a bundle misreads. Groups are told by plain patterns and may overlap."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bundle import Bundle
from models.corpora import CLASSES
from models.labelled import load_labelled
from models.manifest import read_manifest
from models.paired import predictions

CONFIDENT = 0.8
UNKNOWN_PIECES = 3  # a word in as many pieces was never learned as a word
UNKNOWN_SHARE = 0.2
_WORD = re.compile(r"[^\W\d_]+")
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "negation": re.compile(
        r"\b(?:not?|never|none|nobody|nothing|nor|cannot|without|hardly)\b|n['\u2019]?t\b", re.IGNORECASE
    ),
    "mixed": re.compile(r"\b(?:but|however|although|though|yet|despite|except|while|otherwise)\b", re.IGNORECASE),
    "sarcasm-like": re.compile(
        r"#(?:sarcas\w*|not|irony|ironic)\b|\byeah,? right\b|\bthanks a lot\b|\boh,? (?:great|joy|wonderful|good)\b"
        r"|\bjust what i (?:need|want)|\b(?:great|nice|good) (?:job|going)\b|\bway to go\b|🙄",
        re.IGNORECASE,
    ),
}
UNKNOWN_WORDS = "unknown words"
GROUPS = (*PATTERNS, UNKNOWN_WORDS)


@dataclass(frozen=True)
class Group:
    """`mistakes` confident mistakes are in it, that `share` of all; `share_of_correct` of the correct posts are too.

    `examples`: (text, label, predicted); `data`: what the posts are called. A share of no posts is None.
    """

    name: str
    mistakes: int
    share: float | None
    share_of_correct: float | None
    examples: tuple[tuple[str, str, str], ...]
    data: str


def group_mistakes(path: Path, data: Path | None, confident: float = CONFIDENT, n_examples: int = 3) -> list[Group]:
    """The groups of a bundle's mistakes at `confident` or more, `all` first, `none of these` last."""
    bundle = Bundle.load(path, "cpu")
    posts = load_labelled(data, [read_manifest(path)])
    corpus = posts.corpus
    if len(bundle.classes) == 2:
        corpus = corpus.select(i for i, label in enumerate(corpus.labels) if CLASSES[label] != "neutral")
    predicted, truth = predictions(bundle, corpus.texts), np.array(corpus.labels)
    confidence = np.nanmax(bundle.score(corpus.texts).probabilities, axis=1)
    wrong = np.flatnonzero((predicted != truth) & (confidence >= confident))
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")].tolist()
    right = np.flatnonzero(predicted == truth).tolist()
    groups = {i: groups_of(corpus.texts[i], bundle) for i in (*wrong, *right)}

    def group(name: str) -> Group:
        inside = [i for i in wrong if name in groups[i]]
        n_right = sum(name in groups[i] for i in right)
        examples = [(corpus.texts[i], CLASSES[truth[i]], CLASSES[predicted[i]]) for i in inside[:n_examples]]
        return Group(name, len(inside), _share(len(inside), wrong), _share(n_right, right), tuple(examples), posts.name)

    return [group(name) for name in ("all", *GROUPS, "none of these")]


def groups_of(text: str, bundle: Bundle) -> set[str]:
    """The names of the groups that a text is in."""
    found = {name for name, pattern in PATTERNS.items() if pattern.search(text)}
    if _has_unknown_words(text, bundle):
        found.add(UNKNOWN_WORDS)
    return (found or {"none of these"}) | {"all"}


def _has_unknown_words(text: str, bundle: Bundle) -> bool:
    """Whether a fifth of its words are outside the vocabulary: in three pieces or more, or the unknown token."""
    words = _WORD.findall(text)
    unknown = bundle.encoder.tokenizer.token_to_id("[UNK]")
    n_unknown = sum(len(ids) >= UNKNOWN_PIECES or unknown in ids for ids in bundle.encoder.encode(words))
    return bool(words) and n_unknown >= UNKNOWN_SHARE * len(words)


def _share(n: int, among: list[int]) -> float | None:
    return n / len(among) if among else None
