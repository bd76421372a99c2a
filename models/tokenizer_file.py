"""Reading a bundle's `tokenizer.json`: only parts of ours, whose work is bounded by the text, and ids 0, 1, 2, ..."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from models.manifest import read_json

_MUST_BE_ABSENT = ("truncation", "padding", "post_processor", "decoder")  # padding alone could ask for any memory


def read_tokenizer(path: Path, parts: Mapping[str, str | None]) -> tokenizers.Tokenizer:
    """The tokenizer of a file whose `parts` have these types (None: must be absent).

    Raises ValueError for one that is not as ours are, OSError for an unreadable file.
    """
    tree = read_json(path)
    _check_parts(tree, parts)
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(tree))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{path.name} is not a tokenizer: {error}") from error


def _check_parts(tree: Any, parts: Mapping[str, str | None]) -> None:
    """Raise ValueError unless the JSON of a tokenizer has our parts and a vocabulary whose ids are 0, 1, 2, ..."""
    if not isinstance(tree, dict):
        raise ValueError("it is no tokenizer")  # noqa: TRY004 - what is wrong is the file
    for part, kind in parts.items():
        found = tree.get(part)
        if kind is not None and (not isinstance(found, dict) or found.get("type") != kind):
            raise ValueError(f"its {part} must be {kind}")
    absent = (*_MUST_BE_ABSENT, "added_tokens", *(part for part, kind in parts.items() if kind is None))
    unwanted = [part for part in absent if tree.get(part)]
    if unwanted:
        raise ValueError(f"it must have no {', '.join(unwanted)}")
    vocabulary = tree["model"].get("vocab")
    ids: list[Any] = list(vocabulary.values()) if isinstance(vocabulary, dict) else [None]
    if not all(isinstance(i, int) for i in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError("its vocabulary must number its tokens 0, 1, 2, ...")
