"""The subword vocabulary a network starts from: a sentence encoder's WordPiece, cut to what the training posts use.

Training only.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from models.encoder_files import TOKENIZER, WEIGHTS
from models.preparation import PLACEHOLDERS, prepare_subword
from models.tokenizer import UNKNOWN

Float32Array = npt.NDArray[np.float32]

# What stands in for a placeholder's vector at the start: the mean of these words' vectors.
MEANINGS = {"xxuser": "@ user", "xxlink": "http link", "xxemoji": "symbol", "xxbored": "bored annoyed", "xxbad": "bad"}


def meaning_of(placeholder: str) -> list[str]:
    """The words whose vectors stand in for that of a placeholder."""
    return MEANINGS.get(placeholder, placeholder.removeprefix("xx")).split()


def wordpiece(vocabulary: Sequence[str]) -> tokenizers.Tokenizer:
    """A lower-casing WordPiece tokenizer over `vocabulary`, whose order gives the ids; it must hold `[UNK]`."""
    model = models.WordPiece(
        {token: i for i, token in enumerate(vocabulary)}, unk_token=UNKNOWN, max_input_chars_per_word=60
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def read_vocabulary(folder: Path) -> list[str]:
    """The encoder's tokens in the order of their ids, which is that of its embedding's rows."""
    vocabulary = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _ascii_pieces() -> set[str]:
    """Printable ASCII characters, at the start of a word and inside one: whatever is written in them has tokens."""
    return {mark + chr(code) for code in range(33, 127) for mark in ("", "##")}


def cut_vocabulary(full: Sequence[str], texts: Iterable[str], min_count: int) -> list[str]:
    """`[UNK]`, the placeholders, every ASCII character, and the tokens that occur `min_count` times in `texts`."""
    counts: Counter[int] = Counter()
    tokenizer = wordpiece([*full, *PLACEHOLDERS])
    batch = [prepare_subword(text) for text in texts]
    for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
        counts.update(encoding.ids)
    characters = _ascii_pieces()
    kept = [t for i, t in enumerate(full) if t != UNKNOWN and (counts[i] >= min_count or t in characters)]
    return [UNKNOWN, *PLACEHOLDERS, *kept]


def initial_vectors(vocabulary: Sequence[str], folder: Path, width: int) -> Float32Array:
    """The encoder's normalized input embeddings for `vocabulary`, reduced to `width` principal components.

    Shape (len(vocabulary), width). Placeholders start at the mean of the words in `MEANINGS`, or of the word after
    `xx`.
    """
    from safetensors.numpy import load_file

    full = read_vocabulary(folder)
    row_of = {token: i for i, token in enumerate(full)}
    stored = load_file(folder / WEIGHTS)["embeddings.word_embeddings.weight"]  # (30522, 384)
    table = stored.astype(np.float32)
    table = (table - table.mean(axis=1, keepdims=True)) / table.std(axis=1, keepdims=True)

    def vector(token: str) -> Float32Array:
        words = [token] if token in row_of else meaning_of(token)
        return np.asarray(table[[row_of.get(word, row_of[UNKNOWN]) for word in words]].mean(axis=0), np.float32)

    rows = np.stack([vector(token) for token in vocabulary])  # (V, 384)
    return principal_components(rows, width)


def principal_components(rows: Float32Array, width: int) -> Float32Array:
    """Rows (V, D) as (V, width) of the widest spread, of standard deviation 1; all D where `width` is as large."""
    centred = rows - rows.mean(axis=0)
    if width >= centred.shape[1]:
        return np.asarray(centred / centred.std(), np.float32)
    _, axes = np.linalg.eigh(centred.T @ centred)  # eigenvalues ascend
    reduced = centred @ axes[:, -width:]
    return np.asarray(reduced / reduced.std(), np.float32)


def learn_vocabulary(texts: Iterable[str], max_size: int, min_count: int) -> list[str]:
    """The most frequent words of the posts, and characters for the others: for recipes without pretrained vectors.

    Not the trainer of `tokenizers`, whose vocabulary is another one in every run.
    """
    tokenizer = wordpiece([UNKNOWN])
    counts: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(prepare_subword(text))
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    start = [UNKNOWN, *PLACEHOLDERS, *sorted(_ascii_pieces())]
    frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count and word not in start)
    return [*start, *(word for _, word in frequent[: max(0, max_size - len(start))])]
