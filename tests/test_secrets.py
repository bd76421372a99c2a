"""No secret is ever written: real commands with recognisable secrets, and all that they print, log, answer or store."""

import io
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
import yaml
from cli_runs import Cli, make_cli
from daemon_process import DaemonProcess, environment, wait_until, write_config
from fixtures_daemon import RunOnce
from fixtures_slack import FakeSlack
from ports import free_port
from stored import count, url_in

from monitor import logs, settings
from monitor.cautions import cautions, is_local
from monitor.config import Config, KafkaSection, SlackSection, StoreSection
from monitor.errors import ConfigError
from monitor.settings import Secrets

#: recognisable, with characters that JSON, Python literals and URLs spell in their own ways
CANARY = "k4n4ry"
SECRETS = {
    "SLACK_BOT_TOKEN": f"xoxb-{CANARY}-bot",
    "SLACK_WEBHOOK_URL": f"https://hooks.slack.com/services/{CANARY}/hook",
    "HTTP_TOKEN": f'{CANARY} "http" tok/en',
    "DATABASE_PASSWORD": f"{CANARY}'data\\base",
    "KAFKA_PASSWORD": f"{CANARY}-käfka",
}
KAFKA: dict[str, Any] = {
    "name": "posts", "kind": "kafka", "topics": ["posts"], "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN", "username": "pat", "password_from": "KAFKA_PASSWORD",
}  # fmt: skip


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """The handlers of the root logger and the levels of all, put back."""
    root = logging.getLogger()
    handlers, levels = list(root.handlers), {logger: logger.level for logger in _loggers()}
    yield
    root.handlers[:] = handlers
    for logger in _loggers():
        logger.setLevel(levels.get(logger, logging.NOTSET))


def _loggers() -> list[logging.Logger]:
    """The root and all that were asked for by name."""
    root = logging.getLogger()
    return [root, *(found for found in root.manager.loggerDict.values() if isinstance(found, logging.Logger))]


def check_clean(*written: str | bytes) -> None:
    """No part of any secret in there, however it is spelt."""
    for text in written:
        found = text if isinstance(text, bytes) else text.encode()
        assert CANARY.encode() not in found, found[max(0, found.find(CANARY.encode()) - 200) :][:400]


def files_below(folder: Path) -> list[bytes]:
    """Everything that lies in a folder, the configuration file left out."""
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"]


def kafka(port: int) -> dict[str, Any]:
    """A SASL source at a port of this machine."""
    return KAFKA | {"bootstrap_servers": [f"127.0.0.1:{port}"], "options": {"bootstrap_timeout_ms": 500}}


WORDS = ["private", "words"]
COMMANDS = (
    "check", "check --show", "status", "sources list", "sources resume posts", "db current", "db check", "alerts list",
    "alerts test", "report", "deadletters list", "model list",
)  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_show_no_secret(tmp_path: Path, sqlite_url: str, slack: FakeSlack, words: str) -> None:
    """Every command with a secret in reach: Slack refuses the token, the broker is not there, the database answers."""
    sections = {"sources": [kafka(free_port())], "alerts": {"slack": {"base_url": slack.url}}}
    cli = make_cli(tmp_path, sqlite_url, SECRETS, **sections)
    result = cli.run(*words.split())
    check_clean(result.output, str(result.exception), *files_below(tmp_path))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://sam:{CANARY}@127.0.0.1:1/monitor",
        f"postgresql://sam:sl/{CANARY}/ash@127.0.0.1:1/monitor",
        f"postgresql://sam:{quote(f'a@{CANARY}/b')}@127.0.0.1:1/monitor",
        f"postgresql://sam@127.0.0.1:1/monitor?password={CANARY}",
        f"mysql://sam:p@ss/{CANARY}@127.0.0.1/monitor",
        f"postgresql://sam:{CANARY}@[::1/monitor",
        f"postgresql://sam@127.0.0.1:1/monitor?sslpassword={CANARY}&sslmode=strict",
    ],
)
@pytest.mark.parametrize("words", ["check", "check --show", "status", "db upgrade"])
def test_a_password_in_the_stores_url_is_masked(tmp_path: Path, url: str, words: str) -> None:
    """A password in store.url, whatever its characters, is in no message about that URL; the file must not hold it."""
    result = make_cli(tmp_path, url).run(*words.split())
    check_clean(result.output, str(result.exception))
    assert result.exit_code == 78, result.output
    environment = {"SENTIMENT_MONITOR__STORE__URL": url}
    result = make_cli(tmp_path, "sqlite:///a.db", environment).run(*words.split())
    check_clean(result.output, str(result.exception))
    if words != "check --show":
        assert result.exit_code in {69, 78}, result.output


def test_a_crash_with_a_traceback_shows_no_secret(tmp_path: Path) -> None:
    """`--debug` shows where the program crashed and none of the values that it crashed with."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"store": {"url": "postgresql://sam@127.0.0.1:1/x?connect_timeout=soon"}}))
    line = [sys.executable, "-m", "monitor", "--debug", "status", "--config", str(config)]
    ended = subprocess.run(line, capture_output=True, text=True, env=environment(**SECRETS), check=False)
    assert ended.returncode != 0
    check_clean(ended.stdout, ended.stderr)


def _crash(secret: str) -> None:
    """An error with a secret in it, caused by another one, in a frame that holds a post."""
    text = " ".join(WORDS)
    cause = OSError(f"cannot log in with {secret}")
    raise RuntimeError(f"no connection as {secret!r} for {len(text)}") from cause


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_logged_crash_shows_neither_secrets_nor_variables(style: Any, restored_logging: None) -> None:
    """Tracebacks in the log mask secrets in messages and chains, and hold no variable of any frame: those are posts."""
    stream = io.StringIO()
    logs.configure("DEBUG", style, SECRETS.values(), stream)
    log = logging.getLogger("test")
    nested = {name: {"value": [value]} for name, value in SECRETS.items()}
    for value in SECRETS.values():
        try:
            _crash(value)
        except RuntimeError:
            log.exception("it failed for %s", value, extra={"where": nested, "url": f"https://x/?t={quote(value)}"})
    written = stream.getvalue()
    assert written.count("RuntimeError: no connection") == len(SECRETS)
    assert "private words" not in written
    check_clean(written)
    if style == "json":
        lines = [json.loads(line) for line in written.splitlines()]
        ours = [line for line in lines if line["logger"] == "test"]  # clients of other tests may write too
        assert len(ours) == len(SECRETS)
        assert all("Traceback" in line["exception"] for line in ours)


def test_no_name_can_steer_the_terminal_of_the_log(restored_logging: None) -> None:
    """Brands and file names stand in log lines, errors in tracebacks: what a terminal would obey is shown instead."""
    stream = io.StringIO()
    logs.configure("INFO", "text", (), stream)
    log = logging.getLogger("monitor.test")
    hostile = "\x1b]0;mine\x07\x9b2J\u202ebrand"
    log.info("alert about %s", hostile, extra={"alert_key": f"{hostile}/2026-11-01/dip"})
    error = ValueError(hostile)
    log.error("two\nlines", exc_info=error)
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(stream.getvalue())
    assert stream.getvalue().count("brand") >= 3
    assert "two\nlines" in stream.getvalue()


def test_a_secret_within_another_leaves_nothing_of_the_longer_one(restored_logging: None) -> None:
    """Masking begins with the longest."""
    stream = io.StringIO()
    logs.configure("INFO", "json", ["abcd", "abcdefgh"], stream)
    logging.getLogger("test").info("abcdefgh abcd")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines if line["logger"] == "test"] == ["******** ********"]


def ask(port: int, path: str) -> str:
    """The body of an answer that needs the HTTP token."""
    headers = {"Authorization": f"Bearer {SECRETS['HTTP_TOKEN']}"}
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=10) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        with error:
            return error.read().decode() if error.code == 503 else f"unexpected {CANARY} {error.code}"


def test_the_daemon_logs_no_secret(tmp_path: Path, slack: FakeSlack, tiny_bundle: str) -> None:
    """A broker that is away, DEBUG level: neither log nor answers over HTTP nor any file has a secret."""
    sections = {
        "sources": [kafka(free_port())],
        "scoring": {"bundle": tiny_bundle},
        "alerts": {"slack": {"base_url": slack.url}},
        "logging": {"level": "DEBUG"},
    }
    config = write_config(tmp_path, **sections)
    with DaemonProcess(config, env=SECRETS) as daemon:
        wait_until(lambda: "no Kafka broker answers" in daemon.ask("/readyz")[1], "the broker to be missed")
        wait_until(lambda: count(url_in(tmp_path), "SELECT count(*) FROM instances") > 0, "a sign of life")
        answers = [ask(daemon.port, path) for path in ("/readyz", "/livez", "/", "/metrics")]
        status = Cli(config, dict(SECRETS)).run("status", "--json")
        check_clean(*answers, status.output, *files_below(tmp_path))
        assert "source posts" in status.output
        assert daemon.stop(signal.SIGTERM) == 0
        check_clean(daemon.log())
        assert '"level": "debug"' in daemon.log()


def test_a_daemon_whose_database_is_away_logs_no_secret(
    tmp_path: Path, run_once: RunOnce, tiny_bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence about the store has its place and not its password."""
    url = f"postgresql://sam@127.0.0.1:{free_port()}/monitor"
    config = write_config(tmp_path, store={"url": url}, scoring={"bundle": tiny_bundle}, logging={"level": "DEBUG"})
    stream = io.StringIO()
    assert run_once(config, 0.1, stream, **SECRETS) == 69
    assert "sam@127.0.0.1" in stream.getvalue()
    check_clean(stream.getvalue(), *capsys.readouterr(), *files_below(tmp_path))


def test_secrets_are_not_kept_where_they_could_be_seen() -> None:
    """No secret is in a configuration, in what is shown of one, or in the repr of anything that reads secrets."""
    config = Config(sources=[KafkaSection(**kafka(9092))])
    secrets = Secrets(SECRETS)
    check_clean(settings.show(config), repr(config), repr(secrets), str(vars(config)))
    assert sorted(settings.known_secrets(config, secrets)) == sorted(SECRETS.values())


PLAIN = {"name": "posts", "kind": "kafka", "topics": ["posts"]}


@pytest.mark.parametrize(
    ("servers", "security", "said"),
    [
        (["localhost:9092", "127.0.0.7:9092", "[::1]:9092"], {}, None),
        (["10.0.0.5:9092", "localhost:9092"], {}, "PLAINTEXT to 10.0.0.5:9092 sends posts unencrypted"),
        (
            ["kafka.example:9092"],
            {**KAFKA},
            "SASL_PLAINTEXT to kafka.example:9092 sends the password and posts unencrypted",
        ),
        (["kafka.example:9092"], {"security_protocol": "SSL"}, None),
        (["[2001:db8::1]:9092"], {}, "PLAINTEXT to [2001:db8::1]:9092"),
    ],
)
def test_plaintext_to_another_machine_earns_one_warning(
    servers: list[str], security: dict[str, Any], said: str | None
) -> None:
    """Brokers elsewhere without TLS: one sentence that names them and the remedy."""
    config = Config(sources=[KafkaSection(**(PLAIN | security | {"bootstrap_servers": servers}))])
    found = cautions(config, Secrets({}), {})
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


@pytest.mark.parametrize(
    ("url", "environ", "said"),
    [
        ("postgresql://sam@localhost/x", {}, None),
        ("postgresql:///x?host=/run/postgresql", {}, None),
        ("postgresql://sam@db.example/x", {}, "db.example may not be encrypted"),
        ("postgresql+psycopg://sam:p/w@10.0.0.1:5432/x?sslmode=disable", {}, "10.0.0.1 is not encrypted"),
        ("postgresql://sam@/x?host=db.example", {}, "db.example may not be encrypted"),
        ("postgresql://sam@db.example/x?sslmode=require", {}, "anybody may answer"),
        ("postgresql://sam@db.example/x?sslmode=verify-full", {}, None),
        ("postgresql://sam@db.example/x", {"PGSSLMODE": "verify-full"}, None),
        ("postgresql://sam@[2001:db8::1]:5432/x", {}, "2001:db8::1 may not be encrypted"),
        ("sqlite:///x.db", {}, None),
    ],
)
def test_a_database_elsewhere_without_verified_tls_earns_one_warning(
    url: str, environ: dict[str, str], said: str | None
) -> None:
    """sslmode as libpq reads it; verify-full is what ends the warning."""
    found = cautions(Config(store=StoreSection(url=url)), Secrets({}), environ)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_slack_without_tls_earns_one_warning() -> None:
    """An http:// address elsewhere, for the token or for the webhook; the webhook's address is not in the sentence."""
    slack = SlackSection(base_url="http://slack.example/api/")
    config = Config()
    config = config.model_copy(update={"alerts": config.alerts.model_copy(update={"slack": slack})})
    found = cautions(config, Secrets({"SLACK_WEBHOOK_URL": f"http://slack.example/{CANARY}"}), {})
    assert [sentence.partition(":")[0] for sentence in found] == ["alerts.slack.base_url", "SLACK_WEBHOOK_URL"]
    check_clean(*found)


@pytest.mark.parametrize(
    ("host", "local"), [("127.1.2.3", True), ("LOCALHOST", True), ("localhost.evil.example", False), ("0.0.0.0", False)]
)
def test_what_stays_on_this_machine(host: str, local: bool) -> None:
    """Loopback addresses and the name localhost, nothing that only begins so."""
    assert is_local(host) is local


def test_the_warning_is_logged_and_checked_once(tmp_path: Path, sqlite_url: str, run_once: RunOnce) -> None:
    """`check` tells it beside the configuration, and the daemon logs it once at its start."""
    source = PLAIN | {"bootstrap_servers": ["kafka.invalid:9092"]}
    cli = make_cli(tmp_path, sqlite_url, sources=[source], scoring={"bundle": "no such bundle"}, http={"port": 0})
    stream = io.StringIO()
    with pytest.raises(ConfigError, match="no such bundle"):
        run_once(cli.config, 0.1, stream)
    said = "PLAINTEXT to kafka.invalid:9092 sends posts unencrypted"
    assert stream.getvalue().count(said) == 1
    assert cli.run("check").output.count(said) == 1
