"""What users wrote, made fit to stand in a message: cleaned, shortened, and without copies of one another. Pure."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MAX_QUOTES = 3
MAX_QUOTE_CHARS = 280
_SHINGLE_CHARS = 4
_MIN_OVERLAP = 0.7  #: shared shingles over the shorter text's, from which two texts are near-copies

#: code points that steer instead of show: control, format (bidi, zero width, tags), surrogates, private use, separators
_STEERING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_LINK = re.compile(r"(?i)\b(?:[a-z][a-z0-9+.-]{1,15}://|www\.)\S+|\bmailto:\S+")
_WORD_GAPS = re.compile(r"[\W_]+")
_NOT_SAID = re.compile(r"@\w+|\[link\]|\brt\b")  #: what a repost adds to the words of another


@dataclass(frozen=True)
class Candidate:
    """A post that may be quoted."""

    text: str
    user_id: str | None


def clean(text: str, max_chars: int = MAX_QUOTE_CHARS) -> str:
    """`text` on one line, without anything invisible, steering or clickable, of at most `max_chars` characters.

    Web addresses become `[link]`; of combining marks on one letter two stay, for more of them paint over other lines.
    """
    signs: list[str] = []
    n_marks = 0
    for sign in unicodedata.normalize("NFC", text[: 20 * max_chars]):
        kind = unicodedata.category(sign)
        n_marks = n_marks + 1 if kind in {"Mn", "Me"} else 0
        if kind in _STEERING:
            signs.append("" if kind in {"Cf", "Cs"} else " ")
        elif n_marks <= 2:
            signs.append(sign)
    return shorten(_LINK.sub("[link]", " ".join("".join(signs).split())), max_chars)


def shorten(text: str, max_chars: int) -> str:
    """`text`, cut with an ellipsis where it is longer than `max_chars` characters."""
    return text if len(text) <= max_chars else text[: max_chars - 1].rstrip() + "…"


def pick(candidates: Iterable[Candidate], max_quotes: int = MAX_QUOTES) -> list[str]:
    """The first of `candidates`, cleaned: one per author (no user_id: another author each time), no near-copies."""
    quotes: list[str] = []
    authors: set[str] = set()
    seen: list[frozenset[str]] = []
    for candidate in candidates:
        quote = clean(candidate.text)
        shingles = _shingles(quote)
        if not shingles or candidate.user_id in authors or any(_are_near_copies(shingles, other) for other in seen):
            continue
        quotes.append(quote)
        seen.append(shingles)
        if candidate.user_id is not None:
            authors.add(candidate.user_id)
        if len(quotes) == max_quotes:
            break
    return quotes


def _shingles(text: str) -> frozenset[str]:
    """Character runs of the bare words, or of the whole text where it has no words (Broder 1997, "resemblance")."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD_GAPS.sub(" ", _NOT_SAID.sub(" ", folded)).strip() or folded
    return frozenset(words[i : i + _SHINGLE_CHARS] for i in range(max(1, len(words) - _SHINGLE_CHARS + 1)) if words)


def _are_near_copies(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= _MIN_OVERLAP * min(len(one), len(other))
