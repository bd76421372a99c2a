# The compiled half of compiled_encoding.py; not there where no compiler was when the package was installed.
from typing import Any

import numpy.typing as npt

# A capsule with an empty encoder. `seed`: of its hash, 64 bits that nobody outside knows.
def make(max_tokens: int, max_run: int, is_lower: bool, seed: int, /) -> Any: ...

# Table 0: a word with its ids (bytes of int32), how many name a feeling, -1 where the whole text decides. Table 1 and
# 2: a token that begins or continues a word, and in 1 the marks " user", " link", " dots", " unknown" with one to four
# ids. The first value stays. Raises ValueError for a wrong number of ids, UnicodeError for a surrogate.
def add(encoder: Any, table: int, key: str, ids: bytes, feelings: int, /) -> None: ...

# Ids (bytes of int32) of all texts that could be encoded, where each begins and its length, 0 for those left; and the
# unknown words of texts that were left, more than once perhaps. The interpreter is free meanwhile.
def encode(
    encoder: Any, texts: list[str], starts: npt.NDArray[Any], lengths: npt.NDArray[Any], /
) -> tuple[bytes, list[str]]: ...

# What the words take.
def n_bytes(encoder: Any, /) -> int: ...

# Forget the words, not the tokens.
def forget(encoder: Any, /) -> None: ...
