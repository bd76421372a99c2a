"""What kafka-python's consumer is made with: our defaults, the section's options, and what the monitor owns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer

from monitor.config import KafkaSection
from monitor.errors import ConfigError

#: defaults of ours; `options` may replace them
_DEFAULTS: Mapping[str, Any] = {
    "bootstrap_timeout_ms": 5_000,  # longest wait for a first broker
    "session_timeout_ms": 15_000,  # a killed replica's partitions are taken over after this
    # brokers let a rebalance wait so long for a member that lives and does not rejoin, and a request to join lasts so
    # long: with the default of five minutes one hanging replica stops all
    "max_poll_interval_ms": 60_000,
    "request_timeout_ms": 20_000,
    "reconnect_backoff_max_ms": 2_000,  # a broker that comes back is noticed soon
    "metadata_max_age_ms": 10_000,  # so are new and re-created topics
    "fetch_max_bytes": 16 << 20,
    "metrics_enabled": False,
}


def consumer_config(section: KafkaSection, password: str | None, base_dir: Path) -> dict[str, Any]:
    """Every option of the consumer; certificate paths are relative to `base_dir`.

    Raises ConfigError: a password or certificate file is missing, kafka-python does not know an option.
    """
    unknown = sorted(set(section.options) - set(KafkaConsumer.DEFAULT_CONFIG))
    if unknown:
        raise ConfigError(f"sources.{section.name}.options: kafka-python has no consumer option {', '.join(unknown)}")
    if section.password_from and not password:
        raise ConfigError(f"sources.{section.name}: the password {section.password_from} is not set")
    return {
        **_DEFAULTS,
        **section.options,
        **_certificates(section, base_dir),
        "bootstrap_servers": section.bootstrap_servers,
        "group_id": section.group_id,
        "client_id": f"sentiment-monitor-{section.name}",
        "security_protocol": section.security_protocol,
        "sasl_mechanism": section.sasl_mechanism,
        "sasl_plain_username": section.username,
        "sasl_plain_password": password,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # a gap is our business: it is counted
        "allow_auto_create_topics": False,
    }


def _certificates(section: KafkaSection, base_dir: Path) -> dict[str, str]:
    named = {"ssl_cafile": section.ssl_cafile, "ssl_certfile": section.ssl_certfile, "ssl_keyfile": section.ssl_keyfile}
    paths = {key: base_dir / path for key, path in named.items() if path is not None}
    for key, path in paths.items():
        if not path.is_file():
            raise ConfigError(f"sources.{section.name}.{key}: there is no file {path}")
    return {key: str(path) for key, path in paths.items()}
