"""What a configuration may do and should not: send posts, passwords or tokens over a network that others can read."""

import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from monitor.config import Config, KafkaSection
from monitor.settings import Secrets

_LOCAL_NAMES = {"", "localhost", "localhost.localdomain"}
#: libpq's sslmode -> what it lets through (https://www.postgresql.org/docs/current/libpq-ssl.html, table 32.1)
_WEAK_MODES = {
    "disable": "is not encrypted",
    "allow": "may not be encrypted",
    "prefer": "may not be encrypted",
    "require": "is encrypted, but anybody may answer in its place",
}


def cautions(config: Config, secrets: Secrets, environ: Mapping[str, str] = os.environ) -> list[str]:
    """One sentence for each connection that leaves this machine and is not safe there; empty where all are."""
    return [*_of_sources(config), *_of_store(config.store.url, environ), *_of_slack(config, secrets)]


def _of_sources(config: Config) -> Iterator[str]:
    for source in config.sources:
        if isinstance(source, KafkaSection) and source.security_protocol.endswith("PLAINTEXT"):
            away = [server for server in source.bootstrap_servers if not is_local(_host_of(server))]
            if away:
                yield (
                    f"source {source.name}: {source.security_protocol} to {', '.join(away)} sends "
                    f"{'the password and ' if source.username else ''}posts unencrypted; security_protocol "
                    f"{'SASL_SSL' if source.username else 'SSL'} does not"
                )


def _of_store(url: str, environ: Mapping[str, str]) -> Iterator[str]:
    if url.startswith("sqlite"):
        return
    query = parse_qs(url.partition("?")[2])
    found = re.match(r"[^/]*//(?:[^@]*@)?(\[[^\]]*\]|[^/:?]*)", url)  # as SQLAlchemy reads it
    hosts = query.get("host") or [_host_of(found[1])] if found else []
    mode = query.get("sslmode", [environ.get("PGSSLMODE", "prefer")])[0]
    away = [host for host in hosts if not is_local(host)]
    if away and mode in _WEAK_MODES:
        remedy = "sslmode=verify-full with sslrootcert ends that"
        yield f"store.url: the connection to {', '.join(away)} {_WEAK_MODES[mode]}; {remedy}"


def _of_slack(config: Config, secrets: Secrets) -> Iterator[str]:
    webhook = secrets.secret("SLACK_WEBHOOK_URL") or ""
    for name, url in (("alerts.slack.base_url", config.alerts.slack.base_url), ("SLACK_WEBHOOK_URL", webhook)):
        if url.lower().startswith("http:") and not is_local(urlsplit(url).hostname or ""):
            yield f"{name}: alerts and the secret go unencrypted; use https://"


def is_local(host: str) -> bool:
    """Whether what is sent to `host` (a name, an address, or a socket's path) stays on this machine."""
    if host.lower() in _LOCAL_NAMES or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(server: str) -> str:
    """The host of HOST, HOST:PORT or [HOST]:PORT."""
    bracketed = re.match(r"\[([^\]]*)\]", server)
    return bracketed[1] if bracketed else server.partition(":")[0]
