"""Says what is wrong with a configuration, one line a problem: the key, its value, and what is allowed there."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from monitor.config import Config, Section

_SECRET_KEY = re.compile(r"password$|secret|token|credential|private|webhook", re.IGNORECASE)
_LIKE_SECRET_KEY = re.compile(r"pas|pw|secr|tok|cred|priv|hook|key|auth", re.IGNORECASE)  #: unknown ones: misspelt too
_SECRET_VALUE = re.compile(r"xox[a-z]-|xapp-|hooks\.slack\.com", re.IGNORECASE)
_MASK = "***"
_SENTENCES = {
    "union_tag_invalid": "must be 'drop_folder' or 'kafka'",
    "union_tag_not_found": "kind is missing: it must be 'drop_folder' or 'kafka'",
    "missing": "is missing",
    "model_type": "must be keys with values",
    "model_attributes_type": "must be keys with values",
    "dict_type": "must be keys with values",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
}


def problems_of(error: ValidationError, variables: Mapping[str, str]) -> list[str]:
    """One line for each mistake that pydantic found.

    `variables` has, for each dotted key that came from the environment, the variable's name.
    """
    return [_line(dict(mistake), variables) for mistake in error.errors(include_url=False)]


def unknown_key(location: Sequence[object], value: object, source_kind: str | None = None) -> str | None:
    """Why `location`, a path of keys to `value`, does not lead to a key, and which keys there are; None when it does.

    `source_kind` (drop_folder, kafka) narrows the answer to the keys of that kind of source.
    """
    kinds: list[Any] = [Config]
    for depth, key in enumerate(location):
        if source_kind and depth == 2:
            kinds = [kind for kind in kinds if get_args(kind.model_fields["kind"].annotation) == (source_kind,)]
        following = [kind for outer in kinds for kind in _below(outer, str(key))]
        if not following:
            shown = _value_of_unknown(str(key), value) if depth + 1 == len(location) else ""
            return f"{dotted(location[: depth + 1])}{shown}: unknown key; {_allowed(kinds, str(key))}"
        kinds = following
    return None


def dotted(location: Sequence[object]) -> str:
    """A path of keys as people write it: sources[0].path."""
    name = ""
    for key in location:
        if isinstance(key, int) or str(key).isdigit():
            name += f"[{key}]"
        else:
            name += f".{key}" if name else str(key)
    return name or "the configuration"


def masked(key: str, value: object) -> object:
    """`value` as it may be shown under `key`: passwords, tokens and the userinfo of URLs are not."""
    if isinstance(value, Mapping):
        return {name: masked(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [masked(key, inner) for inner in value]
    if value is not None and _SECRET_KEY.search(key):
        return _MASK
    if isinstance(value, str):
        value = re.sub(r"://\S*@", f"://{_MASK}@", value)  # greedy: a password may hold / and @
        value = re.sub(r"(?i)((?:password|sslkey)=)[^&\s]*", rf"\1{_MASK}", value)
        return _MASK if _SECRET_VALUE.search(value) else value
    return value


def _line(mistake: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    location, kind = _as_written(mistake["loc"])
    name = dotted(location)
    origin = variables.get(name.replace("[", ".").replace("]", ""))
    suffix = f" (from {origin})" if origin else ""
    if mistake["type"] == "extra_forbidden":
        return (unknown_key(location, mistake["input"], kind) or f"{name}: unknown key") + suffix
    return f"{name}{_shown(name, mistake)}: {_sentence(mistake)}{suffix}"


def _as_written(location: Sequence[object]) -> tuple[list[object], str | None]:
    """The keys of the file alone, and a source's kind: pydantic adds that, and `[key]` where a key itself is wrong."""
    tagged = len(location) > 2 and location[0] == "sources"
    keys = [*location[:2], *location[3:]] if tagged else list(location)
    return keys[:-1] if keys and keys[-1] == "[key]" else keys, str(location[2]) if tagged else None


def _shown(name: str, mistake: Mapping[str, Any]) -> str:
    value = mistake["input"]
    if mistake["type"] == "union_tag_invalid":
        return f".kind = {mistake['ctx']['tag']!r}"
    if isinstance(value, (Mapping, list, Section)) or mistake["type"] == "missing":
        return ""
    return _equals(masked(name.rpartition(".")[2], value))


def _value_of_unknown(key: str, value: object) -> str:
    if isinstance(value, (Mapping, list)):
        return ""
    return _equals(_MASK if _LIKE_SECRET_KEY.search(key) else masked(key, value))


def _equals(shown: object) -> str:
    return f" = {shown[:200] if isinstance(shown, str) else shown!r}"


def _sentence(mistake: Mapping[str, Any]) -> str:
    kind, message = mistake["type"], str(mistake["msg"])
    if kind == "value_error":
        return str(mistake["ctx"]["error"])
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    message = re.sub(
        r"^(Input should be|(String|List|Value) should) ", lambda at: "must be " if at[2] is None else "must ", message
    )
    return re.sub(
        r"a valid integer|a integer",
        "a whole number",
        message.partition(" after validation")[0].partition(", unable")[0],
    )


def _allowed(kinds: Sequence[Any], key: str) -> str:
    names = sorted({name for kind in kinds for name in _keys(kind)})
    if not names:
        return "nothing stands below this one"
    close = get_close_matches(key, names, n=1, cutoff=0.7)
    elsewhere = [] if close else get_close_matches(key, sorted(_PLACES), n=1, cutoff=0.8)
    hint = "".join(f"did you mean {name}? " for name in [*close, *(_PLACES[name] for name in elsewhere)])
    if _SECRET_KEY.search(key):
        hint = "secrets come from the environment or CREDENTIALS_DIRECTORY only. "
    return f"{hint}allowed: {', '.join(names)}"


def _keys(kind: Any) -> Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, Section):
        yield from (name for name in kind.model_fields if name != "base_dir")


def _places(section: type[Section], above: str = "") -> Iterator[tuple[str, str]]:
    """(key, its dotted path) of whatever stands in sections below `section`: people forget to indent."""
    for name, field in section.model_fields.items():
        for kind in _flat(field.annotation):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from ((key, f"{above}{name}.{key}") for key in kind.model_fields)
                yield from _places(kind, f"{above}{name}.")


def _below(kind: Any, key: str) -> Iterator[Any]:
    """The types that may stand under `key` of a `kind`; none when it has no such key."""
    if isinstance(kind, type) and issubclass(kind, Section):
        if key in _keys(kind):
            yield from _flat(kind.model_fields[key].annotation)
    elif get_origin(kind) is dict:
        yield from _flat(get_args(kind)[1])
    elif get_origin(kind) is list and key.isdigit():
        yield from _flat(get_args(kind)[0])
    elif kind is Any:
        yield Any


def _flat(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from _flat(get_args(kind)[0])
    elif get_origin(kind) in {Union, UnionType}:
        for part in get_args(kind):
            yield from _flat(part)
    else:
        yield kind


#: a key that stands in one section only -> where; one that several have would only be guessed
_PLACES = {key: path for key, path in _places(Config) if [each for each, _ in _places(Config)].count(key) == 1}
