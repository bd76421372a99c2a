"""Configuration: config.yaml, environment, secrets, and what is said about mistakes in them."""

from datetime import time
from pathlib import Path

import pytest
import yaml

from monitor import settings
from monitor.config import Config, DropFolderSection, KafkaSection
from monitor.errors import ConfigError
from monitor.settings import Secrets

FOLDER = "{name: a, kind: drop_folder, path: x%s}"
KAFKA = "{name: posts, kind: kafka, bootstrap_servers: [b:9092], topics: [posts]%s}"
SASL = ", security_protocol: SASL_SSL, sasl_mechanism: PLAIN, username: me, password_from: KAFKA_PASSWORD"


def sources(*sections: str) -> str:
    """A configuration with these sources."""
    return f"sources: [{', '.join(sections)}]"


def load(tmp_path: Path, text: str, **environ: str) -> Config:
    """The configuration that `text` and these environment variables amount to."""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return settings.load(path, environ)


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """The lines of the ConfigError that loading `text` ends with."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environ)
    assert caught.value.exit_code == 78
    return [line.strip() for line in str(caught.value).splitlines()]


def test_the_shipped_file_holds_the_defaults() -> None:
    """The commented default file, at the root and in the package, says exactly what the program assumes without one."""
    root = Path(__file__).parents[1] / "config.yaml"
    assert root.read_text(encoding="utf-8") == settings.default_text()
    assert settings.load(root, {}).model_dump() == Config().model_dump()


def test_every_key_of_the_shipped_file_is_commented() -> None:
    """No key stands in the default file without a comment on its line or above it."""
    lines = settings.default_text().splitlines()
    for number, line in enumerate(lines):
        is_key = ":" in line and not line.lstrip().startswith("#")
        if is_key:
            assert "#" in line or lines[number - 1].startswith("#"), line


def test_every_key_is_in_the_shipped_file() -> None:
    """The default file names every key there is, so that nobody has to read the program to find one."""
    written = yaml.safe_load(settings.default_text())
    assert set(written) == set(Config.model_fields) - {"base_dir"}
    for name in ("scoring", "store", "schedule", "report", "alerts", "http", "logging"):
        assert set(written[name]) == set(Config().model_dump()[name]), name
    assert set(written["sources"][0]) == set(DropFolderSection.model_fields)
    for name in KafkaSection.model_fields:
        assert f"{name}:" in settings.default_text(), name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "---\n",
        "alerts:\nhttp:\nsources:\n  - {name: inbox, kind: drop_folder, path: inbox, columns: }\n",
    ],
)
def test_empty_means_default(tmp_path: Path, text: str) -> None:
    """An empty file, and a section whose keys are all commented out, mean the defaults."""
    assert load(tmp_path, text).model_dump() == Config().model_dump()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Relative paths are seen from the configuration file's folder, wherever the program was started."""
    config = load(tmp_path, "store: {url: 'sqlite:///data/x.db'}")
    assert config.base_dir == tmp_path
    assert config.path("inbox") == tmp_path / "inbox"
    assert config.store_url() == f"sqlite:///{tmp_path}/data/x.db"


def test_a_missing_file_names_init(tmp_path: Path) -> None:
    """Without a configuration file the message says how to make one."""
    with pytest.raises(ConfigError, match="sentiment-monitor init"):
        settings.load(tmp_path / "nowhere.yaml", {})


def test_environment_overrides(tmp_path: Path) -> None:
    """Any key can be overridden: scalars as they are, lists and maps as JSON, single sources by their number."""
    config = load(
        tmp_path,
        "alerts: {threshold: 0.4, min_posts: 50}\nreport: {dir: reports}\n",
        SENTIMENT_MONITOR__STORE__URL="postgresql://db/x",
        SENTIMENT_MONITOR__ALERTS__MIN_POSTS="7",
        SENTIMENT_MONITOR__ALERTS__RUNNING_DAY_FROM="06:30",
        SENTIMENT_MONITOR__ALERTS__BRANDS='{"Acme": {"threshold": 0.3}}',
        SENTIMENT_MONITOR__REPORT__DIR="null",
        SENTIMENT_MONITOR__TIME_ZONE="Europe/Berlin",
        SENTIMENT_MONITOR__SOURCES='[{"name": "a", "kind": "drop_folder", "path": "a"}]',
        OTHER_PROGRAM__STORE__URL="x",
    )
    assert (config.alerts.threshold, config.alerts.min_posts, config.alerts.running_day_from) == (0.4, 7, time(6, 30))
    assert config.alerts.brands["Acme"].threshold == 0.3
    assert (config.store.url, config.report.dir, config.time_zone) == ("postgresql://db/x", None, "Europe/Berlin")
    assert [source.name for source in config.sources] == ["a"]


def test_environment_changes_one_source(tmp_path: Path) -> None:
    """A single key of a single source can be overridden by the source's number."""
    sources = "sources:\n- {name: a, kind: drop_folder, path: a}\n- {name: b, kind: drop_folder, path: b}\n"
    config = load(
        tmp_path,
        sources,
        SENTIMENT_MONITOR__SOURCES__1__PATH="c",
        SENTIMENT_MONITOR__SOURCES__1__COLUMNS='{"text": "body"}',
    )
    first, second = config.sources
    assert isinstance(first, DropFolderSection)
    assert isinstance(second, DropFolderSection)
    assert (first.path, second.path, second.columns) == (Path("a"), Path("c"), {"text": "body"})


MISTAKES = {
    "alerts: {treshold: 0.3}": "alerts.treshold = 0.3: unknown key; did you mean threshold? allowed: brands,",
    "alerts: {http_tokn: geheim}": "alerts.http_tokn = '***': unknown key; allowed: brands,",
    "tresholds: 0.3": "tresholds = 0.3: unknown key; did you mean alerts.threshold? allowed: alerts,",
    "min_posts: 3": "min_posts = 3: unknown key; did you mean alerts.min_posts? allowed: alerts,",
    "alert: {}": "alert: unknown key; did you mean alerts? allowed: alerts, brand, http,",
    "alerts: {threshold: 2}": "alerts.threshold = 2: must be less than or equal to 1",
    "alerts: {threshold: yes}": "alerts.threshold = True: must be a number, not true or false",
    "alerts: {threshold: .nan}": "alerts.threshold = nan: must be a finite number",
    "alerts: {certainty: 1}": "alerts.certainty = 1: must be less than 1",
    "alerts: {running_day_from: 12:00}": 'alerts.running_day_from = 720: must be a time of day in quotes, such as "',
    "alerts: {brands: {acme: {treshold: 1}}}": "alerts.brands.acme.treshold = 1: unknown key; did you mean threshold?",
    "alerts: {brands: {'  ': {}}}": "must not be blank",
    "store: {user_id: sell}": "store.user_id = 'sell': must be 'keep', 'hash' or 'drop'",
    "store: {retention_days: soon}": "store.retention_days = 'soon': must be a whole number",
    "store: {keep_text: perhaps}": "store.keep_text = 'perhaps': must be true or false",
    "store: {url: 'mysql://h/d'}": "store.url = 'mysql://h/d': must start with sqlite:/// and a path, or with postgres",
    "store: [1]": "store: must be keys with values",
    "time_zone: Mars/Base": "time_zone = 'Mars/Base': must be an IANA time zone",
    "http: {port: 70000}": "http.port = 70000: must be less than or equal to 65535",
    "http: {public_url: example.org}": "http.public_url = 'example.org': must start with http:// or https://",
    "scoring: {device: tpu}": "scoring.device = 'tpu': must be auto, cpu, cuda or cuda:N",
    "base_dir: elsewhere": "base_dir: unknown key",
    "sources: []": "sources: must have at least 1 item",
    "sources: inbox": "sources = 'inbox': must be a valid list",
    "sources: [{name: a, kind: drop_box, path: x}]": "sources[0].kind = 'drop_box': must be 'drop_folder' or 'kafka'",
    "sources: [{name: a, path: x}]": "sources[0]: kind is missing: it must be 'drop_folder' or 'kafka'",
    "sources: [{name: a, kind: drop_folder}]": "sources[0].path: is missing",
    "sources: [{name: a, kind: drop_folder, path: ''}]": "sources[0].path = '': must not be blank",
    "sources: [{name: a b, kind: drop_folder, path: x}]": "sources[0].name = 'a b'",
    sources(FOLDER % ", topics: [y]"): "sources[0].topics: unknown key; allowed: brand, columns,",
    sources(FOLDER % ", columns: {body: text}"): "must be 'created_at', 'text', 'user_id', 'id', 'brand' or 'lang'",
    sources(FOLDER % ", created_at_format: unix"): "created_at_format 'unix' must be iso, epoch_s,",
    sources(KAFKA % ", options: {group_id: x}"): "options group_id belong to the monitor",
    sources(KAFKA % ", security_protocol: SASL_SSL"): "SASL_SSL needs sasl_mechanism, username and password_from",
    sources(KAFKA % ", username: me"): "need a SASL security_protocol, not PLAINTEXT",
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.items())
def test_a_mistake_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """Each kind of mistake is one line with the key, its value and what is allowed."""
    headline, *lines = problems(tmp_path, text)
    assert headline.endswith("config.yaml cannot be used:")
    assert len(lines) == 1
    assert expected in lines[0]


CONFLICTS = {
    sources(FOLDER % "", "{name: a, kind: drop_folder, path: y}"): "a is used more than once",
    sources(FOLDER % "", "{name: b, kind: drop_folder, path: ./y/../x}"): "a folder feeds one source",
    sources(KAFKA % "", (KAFKA % "").replace("name: posts", "name: b")): "they share topic posts and group_id",
}


@pytest.mark.parametrize(("text", "expected"), CONFLICTS.items())
def test_conflicts_between_sources(tmp_path: Path, text: str, expected: str) -> None:
    """Two sources that would take each other's records, or one name for two, are refused."""
    assert expected in problems(tmp_path, text)[1]


def test_conflicts_are_told_beside_other_mistakes(tmp_path: Path) -> None:
    """Two sources of one name, a folder for two and a key that is none: whoever mends one must not find the next."""
    folders = "{name: a, kind: drop_folder, path: x}, {name: b, kind: drop_folder, path: x}"
    broken = "{name: a, kind: kafka, bootstrap_servers: [k], topics: [t], options: {group_id: x}, username: me}"
    lines = problems(tmp_path, f"sources: [{folders}, {broken}]\nalerts: {{treshold: 1}}\n")[1:]
    assert sorted(line.strip().partition(" ")[0] for line in lines) == sorted(
        ["sources[2]:", "alerts.treshold", "source", "sources"]
    )
    told = "\n".join(lines)
    for expected in ("group_id belong", "need a SASL", "a is used more than once", "both have path x"):
        assert expected in told


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Mistakes in the file and in the environment are all told in one go, each with where it came from."""
    lines = problems(
        tmp_path,
        "alerts: {treshold: 0.3, min_posts: 0}\nhttp: {port: x}\n",
        SENTIMENT_MONITOR__ALERTS__CERTAINTY="sure",
        SENTIMENT_MONITOR__STORE__ULR="x",
        SENTIMENT_MONITOR__BRAND__X="1",
        SENTIMENT_MONITOR__LANGUAGE="en",
    )[1:]
    assert len(lines) == 7
    assert sum("from SENTIMENT_MONITOR__" in line for line in lines) == 4
    assert "alerts.certainty = 'sure': must be a valid number (from SENTIMENT_MONITOR__ALERTS__CERTAINTY)" in lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alerts: {threshold: 0.4}\nalerts: {min_posts: 3}\n", "line 2, column 1: the key 'alerts' is there twice"),
        ("alerts:\n  threshold: 0.4\n  threshold: 0.5\n", "line 3, column 3: the key 'threshold' is there twice"),
        ("alerts: [1, 2\nhttp: x", "is not valid YAML: line 2"),
        ("just words", "must hold keys with values, not a str"),
        ("a: !!python/object/apply:os.system [ls]", "is not valid YAML: line 1"),
    ],
)
def test_unreadable_yaml(tmp_path: Path, text: str, expected: str) -> None:
    """A file that is not plain YAML with unique keys is refused with the line."""
    assert expected in problems(tmp_path, text)[0]


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    """A file in another encoding is named as such."""
    (tmp_path / "config.yaml").write_bytes("brand: Müller".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        settings.load(tmp_path / "config.yaml", {})


@pytest.mark.parametrize("name", ["SENTIMENT_MONITOR__SOURCES", "SENTIMENT_MONITOR__ALERTS__BRANDS"])
def test_broken_json_in_the_environment(tmp_path: Path, name: str) -> None:
    """A list or map from the environment that is no JSON is refused, not ignored."""
    assert "written as JSON" in problems(tmp_path, "", **{name: "[oops"})[0]


def test_secrets_come_from_environment_or_files(tmp_path: Path) -> None:
    """A secret is found in the environment, else in the credentials folder, without its newline; blank is none."""
    (tmp_path / "HTTP_TOKEN").write_text("from-file\n", encoding="utf-8")
    (tmp_path / "SLACK_BOT_TOKEN").write_text("from-file\n", encoding="utf-8")
    secrets = Secrets(
        {"CREDENTIALS_DIRECTORY": str(tmp_path), "SLACK_BOT_TOKEN": "from-environment", "DATABASE_PASSWORD": " "}
    )
    assert secrets.secret("HTTP_TOKEN") == "from-file"
    assert secrets.secret("SLACK_BOT_TOKEN") == "from-environment"
    assert secrets.secret("DATABASE_PASSWORD") is None
    assert secrets.secret("../HTTP_TOKEN") is None
    assert "from" not in repr(secrets)


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """Secrets written into the file by mistake are masked in messages, and in the configuration as it is shown."""
    text = "\n".join(
        problems(
            tmp_path,
            "alerts: {slack: {token: xoxb-geheim-1}}\nbrand: [xoxb-geheim-2]\nstore: {url: 'mysql://me:geheim@h/d'}",
        )
    )
    assert "geheim" not in text
    assert "secrets come from the environment" in text
    source = KAFKA % ", options: {ssl_crlfile: f, sasl_oauth_token: geheim}"
    url = "postgresql://me:geheim@h/d?password=geheim"
    shown = settings.show(load(tmp_path, f"sources: [{source}]", SENTIMENT_MONITOR__STORE__URL=url))
    assert "geheim" not in shown
    assert "postgresql://***@h/d" in shown
    assert yaml.safe_load(shown)["alerts"]["threshold"] == 0.45


@pytest.mark.parametrize("url", ["postgresql://me:geheim@h/d", "postgresql://me@h/d?password=geheim"])
def test_the_file_must_not_hold_the_databases_password(tmp_path: Path, url: str) -> None:
    """It is refused there, naming where it belongs; the environment may hold one, in the URL too."""
    _, line = problems(tmp_path, f"store: {{url: '{url}'}}")
    assert line.strip().startswith("store.url = 'postgresql://")
    assert "set the secret DATABASE_PASSWORD" in line
    assert "geheim" not in line
    assert load(tmp_path, "", SENTIMENT_MONITOR__STORE__URL=url).store.url == url


def test_known_secrets_are_those_that_logs_must_mask(tmp_path: Path) -> None:
    """Logs know every secret that is set, that inside the store's URL and those of Kafka sources included."""
    url = "postgresql://me:in-url@h/d"
    config = load(tmp_path, sources(KAFKA % SASL), SENTIMENT_MONITOR__STORE__URL=url)
    found = settings.known_secrets(config, Secrets({"HTTP_TOKEN": "t", "KAFKA_PASSWORD": "k"}))
    assert sorted(found) == ["in-url", "k", "t"]


CHANNELS = "alerts: {brands: {acme: {channel: '#a'}}}"
WEBHOOK = {"SLACK_WEBHOOK_URL": "https://h/x"}


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("http: {host: 0.0.0.0}", {}, "http.host = '0.0.0.0': off localhost the secret HTTP_TOKEN must be set"),
        ("http: {host: 0.0.0.0}", {"HTTP_TOKEN": "t"}, None),
        ("http: {host: '::1'}", {}, None),
        (CHANNELS, WEBHOOK, "acme have a channel of their own"),
        (CHANNELS, {**WEBHOOK, "SLACK_BOT_TOKEN": "x"}, None),
        (CHANNELS, {}, None),
        (sources(KAFKA % SASL), {}, "password_from names the secret KAFKA_PASSWORD, which is not set"),
    ],
)
def test_secrets_must_fit_the_configuration(
    tmp_path: Path, text: str, environ: dict[str, str], expected: str | None
) -> None:
    """A daemon does not start when its secrets contradict its configuration."""
    config = load(tmp_path, text)
    if expected is None:
        settings.check_start(config, Secrets(environ))
        return
    with pytest.raises(ConfigError, match="do not fit") as caught:
        settings.check_start(config, Secrets(environ))
    assert expected in str(caught.value)
