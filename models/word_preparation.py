"""Texts cut into lower-case words: the closed list of preparations by word, and of what is removed before.

Each preparation is a total function from any str to words without white space, whose time grows with the length of the
text and no faster. One that looks at a word alone is done word by word (what white space separates), so that an encoder
can remember words; `nltk_words` looks across.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from models.treebank import treebank_words

Cut = Callable[[str], list[str]]

_WORD = re.compile(r"\b\w+\b")
_LETTERS = re.compile(r"[^\W\d_]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TAG = re.compile(r"<[^<>]+>")

#: what can be removed, in the order in which it is; a space stays in its place, so that no two words grow together
REMOVALS: Mapping[str, re.Pattern[str]] = {
    "html": _TAG,
    "links": re.compile(r"https?:\S*|www\.\S+", re.IGNORECASE),
    "mentions": re.compile(r"(?<!\w)@\w+"),
    "digits": re.compile(r"\d+"),
    "punctuation": re.compile(r"[^\w\s]|_"),
    "single_letters": re.compile(r"(?<!\S)[^\W\d_](?!\S)"),
}
_LOOKS_ACROSS = "html"  # a tag may hold white space: the others never match any, nor see more of it than an edge

# The rules of torchtext.data.utils.get_tokenizer("basic_english") (BSD-3-Clause), without the two for `"` and `<br />`.
_BASIC_ENGLISH = str.maketrans(
    {"'": " '  ", ".": " . ", ",": " , ", "(": " ( ", ")": " ) ", "!": " ! ", "?": " ? ", ";": " ", ":": " "}
)


@dataclass(frozen=True)
class WordPreparation:
    """`across` is done to a whole text in lower case, then `within` to each of its words.

    Where words depend on the rest of the text, `within` is None and `whole` cuts the text itself.
    """

    within: Cut | None
    across: Callable[[str], str] = str
    whole: Cut | None = None


def _words(word: str) -> list[str]:
    return _WORD.findall(word)


def _letters(word: str) -> list[str]:
    return _LETTERS.findall(word)


def _without_quotes_and_breaks(text: str) -> str:
    """What `basic_english` does across white space: a break may be quoted apart, `<"br />`."""
    return text.replace('"', "").replace("<br />", " ")


def _basic_english(word: str) -> list[str]:
    return word.translate(_BASIC_ENGLISH).split()


WORD_PREPARATIONS: Mapping[str, WordPreparation] = {
    "words": WordPreparation(_words),
    "basic_english": WordPreparation(_basic_english, _without_quotes_and_breaks),
    "nltk_words": WordPreparation(None, whole=treebank_words),
    "letters": WordPreparation(_letters),
}


class WordCutter:
    """A preparation with its removals. `cut_word` is None where a word cannot be cut without its text."""

    def __init__(self, preparation: str, remove: Iterable[str] = ()) -> None:
        """Raises KeyError for a preparation or a removal that is on neither list."""
        chosen = set(remove)
        if chosen - set(REMOVALS):
            raise KeyError(*sorted(chosen - set(REMOVALS)))
        self._preparation = WORD_PREPARATIONS[preparation]
        self._removes_tags = _LOOKS_ACROSS in chosen
        self._patterns = [REMOVALS[name] for name in REMOVALS if name in chosen and name != _LOOKS_ACROSS]
        self.cut_word: Cut | None = self._cut_word if self._preparation.within else None

    def cut(self, text: str) -> list[str]:
        """The words of a text."""
        if self._preparation.whole is not None:
            return self._preparation.whole(self._remove(self.across(text)))
        return [piece for word in self.across(text).split() for piece in self._cut_word(word)]

    def across(self, text: str) -> str:
        """The text in lower case, after everything that looks across white space; `cut_word` takes its words."""
        if not text.isascii():
            text = _SURROGATE.sub("\ufffd", text)
        if self._removes_tags and "<" in text:
            text = _TAG.sub(" ", text)
        return self._preparation.across(text.lower())

    def _cut_word(self, word: str) -> list[str]:
        assert self._preparation.within is not None
        if not self._patterns:
            return self._preparation.within(word)
        return [piece for part in self._remove(word).split() for piece in self._preparation.within(part)]

    def _remove(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(" ", text)
        return text


def prepare_with(preparation: str) -> Callable[[str], str]:
    """A preparation as a function from text to its words with single spaces between them."""
    cutter = WordCutter(preparation)
    return lambda text: " ".join(cutter.cut(text))
