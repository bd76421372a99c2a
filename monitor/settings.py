"""Loads the configuration: config.yaml, overridden by SENTIMENT_MONITOR__SECTION__KEY; and finds the secrets."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from pydantic import ValidationError

from monitor.config import LOCAL_HOSTS, Config, DropFolderSection, KafkaSection, doubled
from monitor.config_file import read, why_unreadable
from monitor.config_problems import masked, problems_of, unknown_key
from monitor.errors import ConfigError

PREFIX = "SENTIMENT_MONITOR__"
SECRET_NAMES = ("SLACK_BOT_TOKEN", "SLACK_WEBHOOK_URL", "HTTP_TOKEN", "DATABASE_PASSWORD")
DEFAULT_PATH = Path("config.yaml")
_QUERY_SECRET = re.compile(r"[?&](?:password|sslpassword)=([^&]*)", re.IGNORECASE)


class Secrets:
    """Passwords and tokens, from the environment, else from files of their names in CREDENTIALS_DIRECTORY.

    Nothing is kept in the object but where to look, so that no traceback, log or repr can show one.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """`environ` stands in for the process environment."""
        self._environ = os.environ if environ is None else environ

    def secret(self, name: str) -> str | None:
        """The secret called `name`, without the newline at its end; None when it is nowhere or blank.

        Raises ConfigError when its file is there and cannot be read.
        """
        value = self._environ.get(name, "").strip() or self._from_file(name)
        return value or None

    def _from_file(self, name: str) -> str:
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        if not directory or Path(name).name != name:
            return ""
        try:
            return (Path(directory) / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the secret {name} in CREDENTIALS_DIRECTORY cannot be read: {why_unreadable(error)}"
            ) from None

    def __repr__(self) -> str:
        return "Secrets(***)"


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in `path` (default ./config.yaml), overridden by SENTIMENT_MONITOR__ variables of `environ`.

    Raises ConfigError with every problem on a line of its own. `base_dir` of the result is the file's folder.
    """
    path = path or DEFAULT_PATH
    environ = os.environ if environ is None else environ
    written = read(path)
    variables = {name: value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    unknown = {name: why for name, value in variables.items() if (why := unknown_key(_key_of(name), value))}
    overrides = _overrides({name: value for name, value in variables.items() if name not in unknown})
    merged = _merge(written, overrides)
    problems = [*(f"{why} (from {name})" for name, why in unknown.items()), *_passwords_in_file(written)]
    if "base_dir" in written:
        problems.append(f"base_dir: unknown key; relative paths are relative to the folder of {path.name}")
    try:
        config = Config.model_validate({**merged, "base_dir": path.absolute().parent})
        problems += conflicts(config)
    except ValidationError as error:
        problems += problems_of(error, {_dotted(name): name for name in variables})
        told = "\n".join(problems)
        problems += [each for each in _conflicts_beside_mistakes(merged, path.absolute().parent) if each not in told]
    if problems:
        raise ConfigError(_listed(f"{path} cannot be used", problems))
    return config


def conflicts(config: Config) -> list[str]:
    """What contradicts itself across sections, one sentence each."""
    found = []
    folders: dict[Path, str] = {}
    topics: dict[tuple[str, ...], str] = {}
    for source in config.sources:
        if isinstance(source, DropFolderSection):
            other = folders.setdefault(config.path(source.path).resolve(), source.name)
            if other != source.name:
                found.append(
                    f"sources {other} and {source.name}: both have path {source.path}; a folder feeds one source"
                )
        else:
            found += _shared_topics(source, topics)
    return found


def _conflicts_beside_mistakes(merged: Mapping[str, Any], base_dir: Path) -> list[str]:
    """What contradicts itself among the sources that are sound: the models look at it only where all else is."""
    sources = merged.get("sources")
    written = [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []
    sound = []
    for source in written:
        with suppress(ValidationError):
            sound += Config.model_validate({"sources": [source]}).sources
    names = [str(source["name"]) for source in written if "name" in source]
    return [*doubled(names), *conflicts(Config.model_construct(sources=sound, base_dir=base_dir))]


def check_start(config: Config, secrets: Secrets) -> None:
    """Refuse to start a daemon whose secrets do not fit its configuration.

    Raises ConfigError with every problem on a line of its own.
    """
    problems = _missing_passwords(config, secrets)
    if config.http.host not in LOCAL_HOSTS and not secrets.secret("HTTP_TOKEN"):
        problems.append(f"http.host = {config.http.host!r}: off localhost the secret HTTP_TOKEN must be set")
    channels = sorted(brand for brand, rule in config.alerts.brands.items() if rule.channel)
    if channels and secrets.secret("SLACK_WEBHOOK_URL") and not secrets.secret("SLACK_BOT_TOKEN"):
        problems.append(
            f"alerts.brands: {', '.join(channels)} have a channel of their own, and the webhook of SLACK_WEBHOOK_URL "
            "writes to one channel only; set SLACK_BOT_TOKEN, or take the channels out"
        )
    if problems:
        raise ConfigError(_listed("the configuration and its secrets do not fit", problems))


def known_secrets(config: Config, secrets: Secrets) -> list[str]:
    """Every secret that is set, so that logs can mask them; also those inside store.url."""
    names = [*SECRET_NAMES, *(source.password_from for source in config.sources if isinstance(source, KafkaSection))]
    found = [secrets.secret(name) for name in names if name]
    in_url = _passwords_in(config.store.url)
    return list(dict.fromkeys(secret for secret in (*found, *in_url, *map(unquote, in_url)) if secret))


def show(config: Config) -> str:
    """The whole configuration as YAML with everything secret masked."""
    text: str = yaml.safe_dump(masked("", config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)
    return text


def default_text() -> str:
    """The commented default config.yaml."""
    return (files("monitor") / "default_config.yaml").read_text(encoding="utf-8")


def _passwords_in(url: str) -> list[str]:
    return [*re.findall(r"//[^/@:]*:([^@]*)@", url), *_QUERY_SECRET.findall(url)]


def _passwords_in_file(written: Mapping[str, Any]) -> list[str]:
    """Secrets come from the environment only, where SENTIMENT_MONITOR__STORE__URL may hold one."""
    store = written.get("store")
    url = store.get("url") if isinstance(store, dict) else None
    if not isinstance(url, str) or not any(_passwords_in(url)):
        return []
    return [
        f"store.url = {masked('url', url)!r}: the file must not hold the password; set the secret DATABASE_PASSWORD"
    ]


def _missing_passwords(config: Config, secrets: Secrets) -> list[str]:
    return [
        f"source {source.name}: password_from names the secret {source.password_from}, which is not set"
        for source in config.sources
        if isinstance(source, KafkaSection) and source.password_from and not secrets.secret(source.password_from)
    ]


def _shared_topics(source: KafkaSection, seen: dict[tuple[str, ...], str]) -> list[str]:
    found = []
    for topic in source.topics:
        other = seen.setdefault((source.group_id, topic, *sorted(source.bootstrap_servers)), source.name)
        if other != source.name:
            both = f"sources {other} and {source.name}"
            found.append(f"{both}: they share topic {topic} and group_id {source.group_id}; change one of the two")
    return found


def _key_of(variable: str) -> list[str]:
    return variable[len(PREFIX) :].lower().split("__")


def _dotted(variable: str) -> str:
    return ".".join(_key_of(variable))


def _overrides(variables: Mapping[str, str]) -> dict[str, Any]:
    """The variables' values, nested as pydantic-settings reads them: `__` goes one level down, lists are JSON."""
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

    class Variables(Config, BaseSettings):
        model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", env_parse_none_str="null")

    class OfThese(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): None if value == "null" else value for name, value in variables.items()}

    try:
        return _decoded(OfThese(Variables)())
    except SettingsError as error:
        raise ConfigError(f"environment: {error}; lists and maps are written as JSON") from None


def _decoded(overrides: dict[str, Any]) -> dict[str, Any]:
    """Also read the JSON inside single sources, whose members pydantic-settings does not know."""
    sources = overrides.get("sources")
    if isinstance(sources, dict):
        overrides["sources"] = {place: _from_json(value) for place, value in sources.items()}
    return overrides


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(inner) for key, inner in value.items()}
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _merge(below: Any, above: Any) -> Any:
    """`above` laid over `below`, key by key; a map with numbers for keys changes members of a list."""
    if (
        isinstance(below, list)
        and isinstance(above, dict)
        and set(above) <= {str(place) for place in range(len(below))}
    ):
        return [_merge(value, above.get(str(place), value)) for place, value in enumerate(below)]
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merge(below[key], value) if key in below else value for key, value in above.items()}}
    return above


def _listed(headline: str, problems: list[str]) -> str:
    return "\n".join([f"{headline}:", *(f"  {problem}" for problem in problems)])
