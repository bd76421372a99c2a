"""Nearest words by the cosine of their embeddings."""

from pathlib import Path

import numpy as np

from models.bundle import Bundle
from models.manifest import BundleError
from models.network_weights import read_weights
from models.tokenizer import UNKNOWN

EMBEDDING = "embedding.weight"


def neighbours(path: Path, word: str, n: int = 10) -> tuple[int, list[tuple[str, float]]]:
    """(pieces that the word was read in, its `n` nearest whole words with their cosines, nearest first).

    A word that is no token is the mean of its pieces. Raises BundleError for a bundle without embeddings, for an empty
    word and for one that is not in the vocabulary at all.
    """
    bundle = Bundle.load(path, "cpu")
    weights = read_weights(path)
    if EMBEDDING not in weights:
        raise BundleError(f"{bundle.name} has no word embeddings")
    vectors = weights[EMBEDDING].numpy()
    tokenizer = bundle.encoder.tokenizer
    ids = bundle.encoder.encode([word])[0]
    if tokenizer.token_to_id(UNKNOWN) in ids:
        raise BundleError("that word is not in the vocabulary" if word.strip() else "the word is empty")
    names = [tokenizer.id_to_token(i) for i in range(len(vectors))]
    query = vectors[ids].mean(axis=0)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    cosines = vectors @ query / (lengths * max(float(np.linalg.norm(query)), 1e-12))
    order = [i for i in np.argsort(-cosines, kind="stable") if i not in ids and _is_word(names[i])]
    return len(ids), [(names[i], float(cosines[i])) for i in order[:n]]


def _is_word(token: str) -> bool:
    return token.isalpha() and len(token) > 1
