"""Token ids in C: what `tokenizer.TextEncoder` gives in a quarter of its time, mostly without the interpreter's lock.

Words seen before, simple words, mentions and links are looked up and cut in C (`_encoding.c`). Other words are prepared
in Python once; texts whose words act on each other are left to Python whole.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tokenizers

from models.tokens import Int64Array, Tokens
from models.wordpiece import AsciiWordPiece

try:
    from models import _encoding
except ImportError:  # no compiler was there when the package was installed
    IS_AVAILABLE = False
else:
    IS_AVAILABLE = True

MAX_WORD_BYTES = 8 * 2**20  # about 200,000 words; with room to grow 20 MiB
WORDS, STARTS, FOLLOWERS = range(3)
WHOLE_TEXT = -1  # in place of the number of feelings
#: keys of the vocabulary that no text can hold, and the words they stand for
MARKS = {" user": "xxuser", " link": "xxlink", " dots": "\u2026"}
UNKNOWN_MARK = " unknown"

IdsOfTexts = Callable[[Sequence[str]], Sequence[bytes]]
IdsOfWords = Callable[[set[str]], Mapping[str, tuple[bytes, int]]]


class CompiledEncoder:
    """Tokens of texts; threads may share one.

    `ids_of_words` gives the ids of words and how many of them name a feeling, -1 where the whole text decides;
    `ids_of_texts` those of whole texts. Both are asked for what is left.
    """

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, max_tokens: int, ids_of_words: IdsOfWords, ids_of_texts: IdsOfTexts
    ) -> None:
        """Raises ValueError for a vocabulary in which a placeholder or an ellipsis is more than four tokens."""
        vocabulary = AsciiWordPiece(tokenizer)
        self._ids_of_words, self._ids_of_texts = ids_of_words, ids_of_texts
        seed = int.from_bytes(os.urandom(8))
        self._encoder = _encoding.make(max_tokens, vocabulary.max_chars, vocabulary.is_lower, seed)
        self._add_marks(tokenizer, vocabulary)
        for table, tokens in ((STARTS, vocabulary.starts), (FOLLOWERS, vocabulary.followers)):
            for token, i in tokens.items():
                if token.isascii():
                    self._add(table, token, i)

    def _add_marks(self, tokenizer: tokenizers.Tokenizer, vocabulary: AsciiWordPiece) -> None:
        self._add(STARTS, UNKNOWN_MARK, *vocabulary.unknown)
        for key, word in MARKS.items():
            ids = tokenizer.encode(word, add_special_tokens=False).ids
            self._add(STARTS, key, *ids, feelings=int(word.startswith("xx")))

    def _add(self, table: int, key: str, *ids: int, feelings: int = 0) -> None:
        _encoding.add(self._encoder, table, key, array("i", ids).tobytes(), feelings)

    def forget(self) -> None:
        """Begin with no words known."""
        _encoding.forget(self._encoder)

    def n_bytes(self) -> int:
        """What the known words take."""
        return _encoding.n_bytes(self._encoder)

    def encode(self, texts: Iterable[str]) -> Tokens:
        """Tokens of each text; their ids lie in any order."""
        if self.n_bytes() > MAX_WORD_BYTES:
            self.forget()
        batch = _Encoding(list(texts))
        words = self._encode_left(batch)
        if words:
            for word, (ids, feelings) in self._ids_of_words(words).items():
                _encoding.add(self._encoder, WORDS, word, ids, feelings)
            self._encode_left(batch)
        batch.fill(self._ids_of_texts)
        return batch.tokens()

    def _encode_left(self, batch: "_Encoding") -> set[str]:
        """Encode what can be of what is left; the words that are missing."""
        rows = batch.left()
        starts, lengths = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        ids, unknown = _encoding.encode(self._encoder, [batch.texts[row] for row in rows], starts, lengths)
        batch.add(rows, ids, starts, lengths)
        return set(unknown)


class _Encoding:
    """One call's ids as they come."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self._starts, self._lengths = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
        self._parts: list[bytes] = []
        self._n_ids = 0

    def left(self) -> list[int]:
        """Rows without ids."""
        rows: list[int] = np.flatnonzero(self._lengths == 0).tolist()
        return rows

    def add(self, rows: Sequence[int], ids: bytes, starts: Int64Array, lengths: Int64Array) -> None:
        """Note ids of some rows; where each begins in `ids`, and how many they are."""
        self._starts[rows], self._lengths[rows] = starts + self._n_ids, lengths
        self._parts.append(ids)
        self._n_ids += len(ids) // np.dtype(np.int32).itemsize

    def fill(self, ids_of_texts: IdsOfTexts) -> None:
        """Ask for all that is left."""
        if rows := self.left():
            found = ids_of_texts([self.texts[row] for row in rows])
            lengths = np.array([len(ids) // np.dtype(np.int32).itemsize for ids in found], np.int64)
            self.add(rows, b"".join(found), np.cumsum(lengths) - lengths, lengths)

    def tokens(self) -> Tokens:
        """All of them."""
        return Tokens(np.frombuffer(bytearray().join(self._parts), np.int32), self._starts, self._lengths)
