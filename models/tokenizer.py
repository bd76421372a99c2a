"""Text to token ids: what a preparation leaves, through a WordPiece vocabulary, with caches of words in between."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from models import compiled_encoding
from models.compiled_encoding import CompiledEncoder
from models.preparation import PREPARATIONS, PREPARATIONS_BY_WORD, PreparedWord, clip, placeholder_of
from models.tokenizer_file import read_tokenizer
from models.tokens import Tokens
from models.wordpiece import AsciiWordPiece

UNKNOWN = "[UNK]"
MAX_CACHED_WORDS = 150_000  # about 30 MiB
MAX_CACHED_CHARS = 40
COMPILED_PREPARATION = "subword"
ID_BYTES = 4  # ids travel as bytes of int32: nothing in Python joins faster

#: the only parts that a tokenizer.json may have: their work is bounded by the text, and they never look across words
_PARTS = {"model": "WordPiece", "normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}


class MarkedWord(NamedTuple):
    """The ids of a word that holds feelings; `n_feelings` of them before runs were cut."""

    ids: bytes
    n_feelings: int


@dataclass(frozen=True)
class WordCache:
    """What an encoder has seen. Threads may add to it at the same time: each entry has one possible value."""

    words: dict[str, bytes] = field(default_factory=dict)  # words of texts: ids that are the same in every text
    marked: dict[str, MarkedWord | None] = field(default_factory=dict)  # the others; None: the whole text decides
    pieces: dict[str, bytes] = field(
        default_factory=dict
    )  # words of prepared texts that are not ASCII: the others cost less

    def __len__(self) -> int:
        return len(self.words) + len(self.marked) + len(self.pieces)


class TextEncoder:
    """Texts to token ids: a preparation, then a `tokenizers` vocabulary, with caches of words in front of both.

    Words are what white space separates. The normalizer and pre-tokenizer of a WordPiece vocabulary never look across
    white space, so that ids of words, one after the other, equal the ids of the text; neither does a preparation by
    word, with the exceptions that it names. Both are held by tests. Threads may share an encoder.
    """

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, preparation: str, max_tokens: int, *, in_c: bool = True
    ) -> None:
        """`max_tokens` is inclusive; `in_c` False leaves all to Python and `tokenizers`, with the same ids.

        Raises KeyError for an unknown preparation, ValueError without `[UNK]`.
        """
        self.tokenizer = tokenizer
        self.prepare = PREPARATIONS[preparation]
        self.prepare_word = PREPARATIONS_BY_WORD[preparation]
        self.max_tokens = max_tokens
        self.n_tokens = tokenizer.get_vocab_size()
        unknown_id = tokenizer.token_to_id(UNKNOWN)
        if unknown_id is None:
            raise ValueError(f"the vocabulary lacks {UNKNOWN}")
        self._ascii = AsciiWordPiece(tokenizer)
        self._unknown = np.int32(unknown_id).tobytes()
        self.max_cached_words = MAX_CACHED_WORDS
        self._compiled = self._compile() if in_c and preparation == COMPILED_PREPARATION else None
        self._cache = WordCache()

    def _compile(self) -> CompiledEncoder | None:
        """What encodes in C, where it was built."""
        if not compiled_encoding.IS_AVAILABLE:
            return None
        try:
            return CompiledEncoder(self.tokenizer, self.max_tokens, self._ids_of_words, self._encode)
        except ValueError:  # placeholders are no tokens of this vocabulary
            return None

    @classmethod
    def load(cls, path: Path, preparation: str, max_tokens: int) -> "TextEncoder":
        """Read a `tokenizer.json`. Raises ValueError for one that is not as ours are, OSError for an unreadable one."""
        return cls(read_tokenizer(path, _PARTS), preparation, max_tokens)

    def forget(self) -> None:
        """Begin with empty caches. Calls under way keep theirs."""
        self._cache = WordCache()
        if self._compiled:
            self._compiled.forget()

    def _cache_with_room(self) -> WordCache:
        if len(self._cache) > self.max_cached_words:
            self._cache = WordCache()
        return self._cache

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, at least one (the unknown token) and at most `max_tokens`, the middle left out."""
        tokens = self.encode_tokens(texts)
        ends = tokens.starts + tokens.lengths
        return [tokens.ids[at:end].tolist() for at, end in zip(tokens.starts, ends, strict=True)]

    def encode_tokens(self, texts: Sequence[str]) -> Tokens:
        """The same in one array."""
        if self._compiled:
            return self._compiled.encode(texts)
        encoded = self._encode(texts)
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded)) // ID_BYTES
        return Tokens.end_to_end(np.frombuffer(bytearray().join(encoded), np.int32), lengths)

    def token_words(self, text: str) -> list[tuple[int, str]]:
        """(place, word) of each token of a text, as `encode` gives them; tokens of one word have the same place."""
        found = [
            (place, word)
            for place, word in enumerate(self.prepare(text).split())
            for _ in self.tokenizer.encode(word, add_special_tokens=False).ids
        ]
        if len(found) > self.max_tokens:
            head = self.max_tokens // 2
            found = found[:head] + found[head - self.max_tokens :]
        return found or [(0, text.strip())]

    def _encode(self, texts: Sequence[str]) -> list[bytes]:
        cache = self._cache_with_room()
        known = cache.words.__getitem__
        encoded: list[bytes] = []
        unknown: dict[int, list[str]] = {}  # by row
        for row, text in enumerate(texts):
            words = clip(text).split()
            try:
                encoded.append(b"".join(map(known, words)))
            except KeyError:
                encoded.append(b"")
                unknown[row] = words
        for row, ids in self._encode_unknown(cache, unknown, texts):
            encoded[row] = ids
        return [self._fit(ids) for ids in encoded]

    def _fit(self, ids: bytes) -> bytes:
        if len(ids) <= self.max_tokens * ID_BYTES:
            return ids or self._unknown
        head = self.max_tokens // 2
        return ids[: head * ID_BYTES] + ids[(head - self.max_tokens) * ID_BYTES :]

    def _encode_unknown(
        self, cache: WordCache, unknown: Mapping[int, list[str]], texts: Sequence[str]
    ) -> Iterator[tuple[int, bytes]]:
        """Rows with words that are new or marked, in any order."""
        strange = {word for words in unknown.values() for word in words if word not in cache.words}
        found = self._look_up(cache, strange)
        whole: dict[int, list[str]] = {}
        for row, words in unknown.items():
            ids = _join(words, cache.words, found)
            if ids is None:
                whole[row] = self.prepare(texts[row]).split()
            else:
                yield row, ids
        ids_of = self._tokenize(cache, {piece for pieces in whole.values() for piece in pieces})
        for row, pieces in whole.items():
            yield row, b"".join(map(ids_of.__getitem__, pieces))

    def _look_up(self, cache: WordCache, words: set[str]) -> dict[str, MarkedWord | None]:
        """Prepare and tokenize words; those that are the same in every text go to the cache, the others come back."""
        found = {word: cache.marked[word] for word in words if word in cache.marked}
        prepared = {word: self._prepare_word(word) for word in words if word not in found}
        ids_of = self._tokenize(cache, {piece for word in prepared.values() if word for piece in word.pieces})
        for text, word in prepared.items():
            marked = word and MarkedWord(b"".join(map(ids_of.__getitem__, word.pieces)), word.n_feelings)
            if marked and not marked.n_feelings and len(text) <= MAX_CACHED_CHARS:
                cache.words[text] = marked.ids
                continue
            found[text] = marked
            if len(text) <= MAX_CACHED_CHARS and not placeholder_of(text):  # names and links rarely come again
                cache.marked[text] = marked
        return found

    def _ids_of_words(self, words: set[str]) -> dict[str, tuple[bytes, int]]:
        """Ids of words, and how many name a feeling; `compiled_encoding.WHOLE_TEXT` where the whole text decides."""
        prepared = {word: self._prepare_word(word) for word in words}
        pieces = {piece for word in prepared.values() if word for piece in word.pieces}
        ids_of = self._tokenize(self._cache_with_room(), pieces)
        return {
            text: (b"".join(map(ids_of.__getitem__, word.pieces)), word.n_feelings)
            if word
            else (b"", compiled_encoding.WHOLE_TEXT)
            for text, word in prepared.items()
        }

    def _prepare_word(self, word: str) -> PreparedWord | None:
        placeholder = placeholder_of(word)
        return PreparedWord([placeholder], 1) if placeholder else self.prepare_word(word)

    def _tokenize(self, cache: WordCache, pieces: set[str]) -> dict[str, bytes]:
        """Ids of words of prepared texts."""
        return {piece: self._ids_of_piece(cache, piece) for piece in pieces}

    def _ids_of_piece(self, cache: WordCache, piece: str) -> bytes:
        ids = self._ascii.ids_of(piece)
        if ids is not None:
            return array("i", ids).tobytes()
        if piece in cache.pieces:
            return cache.pieces[piece]
        found = array("i", self.tokenizer.encode(piece, add_special_tokens=False).ids).tobytes()
        if len(piece) <= MAX_CACHED_CHARS:
            cache.pieces[piece] = found
        return found


def _join(words: Sequence[str], known: Mapping[str, bytes], found: Mapping[str, MarkedWord | None]) -> bytes | None:
    """Ids of a text from those of its words; None where its words act on each other."""
    marked = [found[word] for word in words if word in found]
    n_feelings = 0
    for mark in marked:
        if mark is None:
            return None
        n_feelings += mark.n_feelings
    if len(marked) > 1 and n_feelings > 2 and _has_run(words, known, found):
        return None
    return b"".join([known[word] if word in known else found[word].ids for word in words])  # type: ignore[union-attr]


def _has_run(words: Sequence[str], known: Mapping[str, bytes], found: Mapping[str, MarkedWord | None]) -> bool:
    """Whether neighbours hold three feelings: the third of a run is cut. A word without ids may be no word at all."""
    n_marked = n_feelings = 0  # of neighbours
    for word in words:
        mark = found.get(word)
        if mark:
            n_marked += 1
            n_feelings += mark.n_feelings
            if n_marked > 1 and n_feelings > 2:
                return True
        elif known[word]:
            n_marked = n_feelings = 0
    return False
