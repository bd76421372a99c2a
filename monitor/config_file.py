"""Reads the configuration file itself: plain YAML in UTF-8, each key once."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from monitor.errors import ConfigError


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML as usual, but a key written twice is an error: one of the two would be ignored silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # an error of its own, told by the original
            if key in seen:
                problem = f"the key {key!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read(path: Path) -> dict[str, Any]:
    """What the file says, {} where it is empty. Raises ConfigError with the line, never with its content."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        written = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - derived from SafeLoader
    except FileNotFoundError:
        hint = "`sentiment-monitor init` writes one, --config PATH names another"
        raise ConfigError(f"there is no {path}; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {why_unreadable(error)}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_where(error)}") from None
    if written is not None and not isinstance(written, dict):
        raise ConfigError(f"{path} must hold keys with values, not a {type(written).__name__}")
    return {str(key): value for key, value in (written or {}).items()}


def _where(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:  # str(error) quotes the line: it may be secret
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return type(error).__name__


def why_unreadable(error: Exception) -> str:
    """Why a file could not be read, in words."""
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(getattr(error, "strerror", error))
