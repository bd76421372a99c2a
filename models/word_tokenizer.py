"""Text to the ids of whole words, or of words and the pairs they stand in, with a cache of words in front."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers

from models.tokenizer_file import read_tokenizer
from models.tokens import Tokens
from models.word_preparation import REMOVALS, WordCutter

UNKNOWN, START, END, PADDING = "[UNK]", "[SOS]", "[EOS]", "[PAD]"
KEPT_ENDS = ("first", "last", "ends")
MAX_NGRAM = 3
MAX_READ_CHARS = 20_000  #: of a longer text only the end that `keep` names, or half of it from either end, is read
MAX_CACHED_WORDS = 150_000  # about 30 MiB
MAX_CACHED_CHARS = 40
ID_BYTES = 4

_PARTS = {"model": "WordLevel", "normalizer": None, "pre_tokenizer": "WhitespaceSplit"}


@dataclass(frozen=True)
class WordSettings:
    """What a manifest says about reading words. Raises ValueError for what is on no list.

    `keep`: which end of a text of more than `max_tokens` tokens, or half of them from both `ends`. `remove`: names of
    `REMOVALS`. `ngrams`: up to how many neighbours make a term.
    """

    keep: str = "first"
    remove: tuple[str, ...] = ()
    ngrams: int = 1

    def __post_init__(self) -> None:
        if self.keep not in KEPT_ENDS:
            raise ValueError(f"keep {self.keep!r} is none of {', '.join(KEPT_ENDS)}")
        if not isinstance(self.remove, list | tuple) or not all(name in REMOVALS for name in self.remove):
            raise ValueError(f"remove {self.remove!r} is no list of {', '.join(REMOVALS)}")
        if type(self.ngrams) is not int or not 1 <= self.ngrams <= MAX_NGRAM:
            raise ValueError(f"ngrams {self.ngrams!r} is not from 1 to {MAX_NGRAM}")


class WordEncoder:
    """Texts to ids of their words; the interface of `tokenizer.TextEncoder`.

    A vocabulary with `[SOS]` and `[EOS]` gets them around every text; they count. With `ngrams` above 1 the terms of a
    text are its words, then its pairs of neighbours, ...; terms outside the vocabulary are left out instead of being
    `[UNK]`, and `max_tokens` counts words. Threads may share an encoder.
    """

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, preparation: str, max_tokens: int, settings: WordSettings | None = None
    ) -> None:
        """`max_tokens` is inclusive. Raises KeyError for an unknown preparation, ValueError without `[UNK]`."""
        self.settings = settings or WordSettings()
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.n_tokens = tokenizer.get_vocab_size()
        self._cutter = WordCutter(preparation, self.settings.remove)
        self._ids = tokenizer.get_vocab()
        if UNKNOWN not in self._ids:
            raise ValueError(f"the vocabulary lacks {UNKNOWN}")
        self._unknown = np.int32(self._ids[UNKNOWN]).tobytes()
        has_marks = START in self._ids and END in self._ids
        self._marks = (self._bytes_of(START), self._bytes_of(END)) if has_marks else (b"", b"")
        self._room = max_tokens - 2 * has_marks  # tokens of the text itself
        if self._room < 1:
            raise ValueError(f"max_tokens {max_tokens} leaves no room for words")
        self._keep, self._ngrams = self.settings.keep, self.settings.ngrams
        self.max_cached_words = MAX_CACHED_WORDS
        self.forget()

    @classmethod
    def load(cls, path: Path, preparation: str, max_tokens: int, settings: WordSettings) -> "WordEncoder":
        """Read a `tokenizer.json`. Raises ValueError for one that is not as ours are, OSError for an unreadable one."""
        return cls(read_tokenizer(path, _PARTS), preparation, max_tokens, settings)

    def prepare(self, text: str) -> str:
        """The words of a text as the vocabulary has them, with single spaces between."""
        return " ".join(self._cutter.cut(self._clip(text)))

    def forget(self) -> None:
        """Begin with an empty cache. Calls under way keep theirs."""
        self._cache: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, at least one (the unknown token) and at most `max_tokens` (of words, with `ngrams`)."""
        return [np.frombuffer(ids, np.int32).tolist() for ids in self._encode(texts)]

    def encode_tokens(self, texts: Sequence[str]) -> Tokens:
        """The same in one array."""
        encoded = self._encode(texts)
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded)) // ID_BYTES
        return Tokens.end_to_end(np.frombuffer(bytearray().join(encoded), np.int32), lengths)

    def token_words(self, text: str) -> list[tuple[int, str]]:
        """(place, word) of each token of a text, as `encode` gives them; marks have places of their own."""
        words = self._kept(self._cutter.cut(self._clip(text))) or [text.strip()]
        return list(enumerate([START, *words, END] if self._marks[0] else words))

    def _encode(self, texts: Sequence[str]) -> list[bytes]:
        if self._ngrams > 1:
            return [self._encode_terms(text) for text in texts]
        if self._cutter.cut_word is None:
            return [self._fit(b"".join(map(self._bytes_of, self._cutter.cut(self._clip(text))))) for text in texts]
        if len(self._cache) > self.max_cached_words:
            self.forget()
        cache = self._cache
        return [self._fit(self._encode_text(cache, text)) for text in texts]

    def _encode_text(self, cache: dict[str, bytes], text: str) -> bytes:
        words = self._cutter.across(self._clip(text)).split()
        try:
            return b"".join(map(cache.__getitem__, words))
        except KeyError:
            return b"".join([cache[word] if word in cache else self._encode_word(cache, word) for word in words])

    def _encode_word(self, cache: dict[str, bytes], word: str) -> bytes:
        assert self._cutter.cut_word is not None
        ids = b"".join(map(self._bytes_of, self._cutter.cut_word(word)))
        if len(word) <= MAX_CACHED_CHARS:
            cache[word] = ids
        return ids

    def _bytes_of(self, word: str) -> bytes:
        found = self._ids.get(word)
        return self._unknown if found is None else np.int32(found).tobytes()

    def _encode_terms(self, text: str) -> bytes:
        ids = array("i", [i for i in map(self._ids.get, self.terms(text)) if i is not None])
        return ids.tobytes() or self._unknown

    def terms(self, text: str) -> list[str]:
        """Words of a text, then its pairs of neighbours, ... up to `ngrams`, joined by a space."""
        words = self._kept(self._cutter.cut(self._clip(text)))
        found, grams = [*words], words
        for n in range(1, self._ngrams):
            grams = [f"{gram} {word}" for gram, word in zip(grams, words[n:], strict=False)]
            found += grams
        return found

    def places(self, text: str) -> tuple[list[str], list[tuple[str, range]]]:
        """(words of a text, its terms as `terms` gives them with the places of their words)."""
        words = self._kept(self._cutter.cut(self._clip(text)))
        spans = [range(i, i + n) for n in range(1, self._ngrams + 1) for i in range(len(words) - n + 1)]
        return words, [(" ".join(words[i] for i in span), span) for span in spans]

    def _clip(self, text: str) -> str:
        if len(text) <= MAX_READ_CHARS:
            return text
        if self._keep == "ends":
            return f"{text[: MAX_READ_CHARS // 2]} {text[-MAX_READ_CHARS // 2 :]}"
        return text[:MAX_READ_CHARS] if self._keep == "first" else text[-MAX_READ_CHARS:]

    def _kept(self, words: list[str]) -> list[str]:
        if len(words) <= self._room:
            return words
        first, last = self._shares()
        return words[:first] + words[len(words) - last :]

    def _fit(self, ids: bytes) -> bytes:
        if len(ids) > self._room * ID_BYTES:
            first, last = self._shares()
            ids = ids[: first * ID_BYTES] + ids[len(ids) - last * ID_BYTES :]
        start, end = self._marks
        return start + (ids or self._unknown) + end

    def _shares(self) -> tuple[int, int]:
        """How many tokens of a long text are kept from its beginning and from its end."""
        if self._keep == "ends":
            return self._room // 2, self._room - self._room // 2
        return (self._room, 0) if self._keep == "first" else (0, self._room)
