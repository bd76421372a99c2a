"""The encoder of a bundle: subwords or whole words, as its manifest says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import tokenizers

from models.manifest import MANIFEST, TOKENIZER, BundleError, Manifest
from models.preparation import PREPARATIONS
from models.tokenizer import TextEncoder
from models.tokens import Tokens
from models.word_preparation import WORD_PREPARATIONS
from models.word_tokenizer import WordEncoder, WordSettings


class Encoder(Protocol):
    """Texts to token ids. Threads may share one."""

    tokenizer: tokenizers.Tokenizer
    n_tokens: int  # of the vocabulary
    max_tokens: int  # of a text, inclusive

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, at least one and at most `max_tokens`."""

    def encode_tokens(self, texts: Sequence[str]) -> Tokens:
        """The same in one array."""

    def token_words(self, text: str) -> list[tuple[int, str]]:
        """(place, word) of each token of a text, as `encode` gives them; tokens of one word have the same place."""

    def prepare(self, text: str) -> str:
        """The text as the vocabulary reads it."""

    def forget(self) -> None:
        """Begin with empty caches. Calls under way keep theirs."""


def load_encoder(folder: Path, manifest: Manifest) -> Encoder:
    """The encoder of the bundle in `folder`. Raises BundleError, naming the file that is wrong."""
    preparation = manifest.preparation
    if preparation not in PREPARATIONS:
        raise BundleError(f"{folder / MANIFEST}: preparation {preparation!r} is none of {', '.join(PREPARATIONS)}")
    try:
        settings = WordSettings(**manifest.encoding)
    except (ValueError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST}: encoding: {error}") from error
    try:
        if preparation in WORD_PREPARATIONS:
            return WordEncoder.load(folder / TOKENIZER, preparation, manifest.max_tokens, settings)
        return TextEncoder.load(folder / TOKENIZER, preparation, manifest.max_tokens)
    except (ValueError, TypeError, OSError) as error:
        raise BundleError(f"{folder / TOKENIZER}: {error}") from error
