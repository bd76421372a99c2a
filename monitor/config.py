"""The configuration: one frozen model per section of config.yaml; settings.py loads it from file and environment."""

import re
from collections.abc import Sequence
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from monitor.config_values import (
    BrandName,
    Device,
    FilePath,
    Number,
    SourceName,
    StoreUrl,
    TimeOfDay,
    WebUrl,
    Whole,
    ZoneName,
)

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})  #: what this machine alone can reach

#: consumer options that the monitor owns; in `options` they are refused
OWNED_KAFKA_OPTIONS = frozenset({
    "bootstrap_servers", "group_id", "client_id", "enable_auto_commit", "auto_commit_interval_ms", "auto_offset_reset",
    "key_deserializer", "value_deserializer", "allow_auto_create_topics", "consumer_timeout_ms", "security_protocol",
    "sasl_mechanism", "sasl_plain_username", "sasl_plain_password", "ssl_cafile", "ssl_certfile", "ssl_keyfile",
    "ssl_password",
})  # fmt: skip


#: a relative path of libpq's; `system` is not one but stands for the system's authorities
_TLS_FILE = re.compile(r"([?&](?:sslrootcert|sslcert|sslkey|sslcrl)=)(?!system(?:&|$))([^&/%][^&]*)")


class Section(BaseModel):
    """Frozen, and an unknown key is an error: a misspelt setting must never be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, value: object) -> object:
        """A section or map whose keys are all commented out reads as null."""
        if not isinstance(value, dict):
            return value
        return {key: inner for key, inner in value.items() if inner is not None or not cls._holds_keys(key)}

    @classmethod
    def _holds_keys(cls, name: object) -> bool:
        field = cls.model_fields.get(str(name))
        kind = get_origin(field.annotation) or field.annotation if field else None
        return isinstance(kind, type) and issubclass(kind, (Section, dict))


Field_ = Literal["created_at", "text", "user_id", "id", "brand", "lang"]


class SourceSection(Section):
    """What every source has."""

    name: SourceName
    id_space: str | None = None  # default: the source's name
    brand: BrandName | None = None
    columns: dict[Field_, str] = {}  # our name -> theirs
    created_at_format: str = "iso"  # iso, epoch_s, epoch_ms or a strptime pattern

    @model_validator(mode="after")
    def _check_format(self) -> "SourceSection":
        if self.created_at_format not in {"iso", "epoch_s", "epoch_ms"} and "%" not in self.created_at_format:
            allowed = "iso, epoch_s, epoch_ms or a strptime pattern with %"
            raise ValueError(f"created_at_format {self.created_at_format!r} must be {allowed}")
        return self


class DropFolderSection(SourceSection):
    """A watched folder of CSV files."""

    kind: Literal["drop_folder"]
    path: FilePath
    settle_s: Number = Field(2.0, ge=0, le=3600)
    done_keep_days: Whole = Field(30, ge=0)


class KafkaSection(SourceSection):
    """Topics of a Kafka cluster."""

    kind: Literal["kafka"]
    bootstrap_servers: list[str] = Field(min_length=1)
    topics: list[str] = Field(min_length=1)
    group_id: str = "sentiment-monitor"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password_from: str | None = None  # the NAME of the environment variable or credential file
    ssl_cafile: FilePath | None = None
    ssl_certfile: FilePath | None = None
    ssl_keyfile: FilePath | None = None
    options: dict[str, Any] = {}  # further kafka-python consumer options

    @model_validator(mode="after")
    def _check_conflicts(self) -> "KafkaSection":
        found = []
        owned = sorted(OWNED_KAFKA_OPTIONS & set(self.options))
        if owned:
            found.append(f"options {', '.join(owned)} belong to the monitor; use the source's own keys")
        sasl = self.security_protocol.startswith("SASL")
        login = self.sasl_mechanism, self.username, self.password_from
        names = "sasl_mechanism, username and password_from"
        if sasl and not all(login):
            found.append(f"security_protocol {self.security_protocol} needs {names}")
        if not sasl and any(login):
            found.append(f"{names} need a SASL security_protocol, not {self.security_protocol}")
        if found:
            raise ValueError("; ".join(found))
        return self


AnySource = Annotated[DropFolderSection | KafkaSection, Field(discriminator="kind")]


class ScoringSection(Section):
    """How posts are scored and batched."""

    bundle: str = "social-gru"
    device: Device = "auto"
    max_batch_posts: Whole = Field(4096, ge=1, le=100_000)
    max_batch_chars: Whole = Field(2_000_000, ge=1)
    max_wait_ms: Whole = Field(100, ge=0, le=60_000)
    max_text_chars: Whole = Field(20_000, ge=1, le=1_000_000)
    other_languages: Literal["score", "skip"] = "score"


class StoreSection(Section):
    """Where rows go and what is kept of them."""

    url: StoreUrl = "sqlite:///data/sentiment.db"
    keep_text: bool = True
    retention_days: Whole = Field(365, ge=1)
    user_id: Literal["keep", "hash", "drop"] = "keep"
    migrate_on_start: bool = True


class ScheduleSection(Section):
    """When the scheduler's jobs run; times of day are in time_zone."""

    refresh_s: Number = Field(15, gt=0, le=3600)
    deliver_s: Number = Field(5, gt=0, le=3600)
    retain_at: TimeOfDay = time(3, 30)
    recount_at: TimeOfDay = time(4, 0)


class ReportSection(Section):
    """The daily CSV and plot for stakeholders; off while dir is null."""

    dir: FilePath | None = None
    at: TimeOfDay = time(6, 0)


class SlackSection(Section):
    """How alerts reach Slack; secrets come from the environment only."""

    channel: str = Field("#brand-alerts", min_length=1)
    base_url: WebUrl = "https://slack.com/api/"
    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"


class BrandRule(Section):
    """What one brand has of its own; null means the general value."""

    threshold: Number | None = Field(None, ge=0, le=1)
    min_posts: Whole | None = Field(None, ge=1)
    certainty: Number | None = Field(None, ge=0, lt=1)
    channel: str | None = None


class AlertsSection(Section):
    """The alert rules; SIGHUP reloads this section."""

    threshold: Number = Field(0.45, ge=0, le=1)
    min_posts: Whole = Field(30, ge=1)
    certainty: Number = Field(0.95, ge=0, lt=1)
    max_span_days: Whole = Field(7, ge=1)
    recover_margin: Number = Field(0.02, ge=0, le=1)
    running_day_from: TimeOfDay = time(12, 0)
    max_age_days: Whole = Field(7, ge=1)
    hold_s: Number = Field(900, ge=0)
    no_data_days: Whole = Field(0, ge=0)
    slack: SlackSection = SlackSection()
    brands: dict[BrandName, BrandRule] = {}


class HttpSection(Section):
    """Health, metrics, status page and POST /score."""

    host: str = "127.0.0.1"
    port: Whole = Field(8080, ge=0, le=65535)  # 0: a free port
    public_url: WebUrl = ""


class LoggingSection(Section):
    """Log lines."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["auto", "json", "text"] = "auto"


def _default_sources() -> list[AnySource]:
    return [DropFolderSection(name="inbox", kind="drop_folder", path=Path("inbox"))]


def doubled(source_names: Sequence[str]) -> list[str]:
    """A sentence where two sources have one name; empty where none do."""
    names = sorted({name for name in source_names if source_names.count(name) > 1})
    return [f"source names must differ: {', '.join(names)} is used more than once"] if names else []


class Config(Section):
    """The whole configuration. Relative paths are relative to `base_dir`, the configuration file's folder."""

    time_zone: ZoneName = "UTC"
    brand: BrandName = "default"
    max_brands: Whole = Field(1000, ge=1)
    sources: list[AnySource] = Field(default_factory=_default_sources, min_length=1)
    max_invalid_share: Number = Field(0.5, gt=0, le=1)
    scoring: ScoringSection = ScoringSection()
    store: StoreSection = StoreSection()
    schedule: ScheduleSection = ScheduleSection()
    report: ReportSection = ReportSection()
    alerts: AlertsSection = AlertsSection()
    http: HttpSection = HttpSection()
    logging: LoggingSection = LoggingSection()
    base_dir: Path = Field(Path(), exclude=True, repr=False)

    @model_validator(mode="after")
    def _check_names(self) -> "Config":
        for problem in doubled([source.name for source in self.sources]):
            raise ValueError(problem)
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The zone that days are counted in."""
        return ZoneInfo(self.time_zone)

    def path(self, relative: Path | str) -> Path:
        """`relative` seen from the configuration file's folder; an absolute path stays as it is."""
        return self.base_dir / relative

    def store_url(self) -> str:
        """The store's URL with relative paths made absolute: that of a SQLite file, and those of TLS files."""
        scheme, separator, path = self.store.url.partition("sqlite:///")
        if separator and not scheme:
            return f"sqlite:///{self.path(path)}"
        return _TLS_FILE.sub(lambda found: found[1] + quote(str(self.path(unquote(found[2])))), self.store.url)
