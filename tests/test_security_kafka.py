"""TLS and SASL against the real Apache Kafka, whose certificates come from an authority of the test's own.

One broker with three listeners: SASL over TLS, TLS that asks for a client's certificate, and TLS under another name.
"""

import gc
import json
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from cli_runs import make_cli
from daemon_process import wait_until
from fixtures_kafka import real_server
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion
from ports import free_port

from monitor.config import KafkaSection
from monitor.errors import ConfigError, SourceUnavailable
from monitor.parsing import Parser
from monitor.posts import Post, Record
from monitor.sources.kafka import KafkaTopics
from monitor.sources.memory import MemoryPositions

pytestmark = pytest.mark.kafka

PASSWORDS = {"pat": "pat's secret", "sam": "s4m-secret", "sue": "sue+256=secret"}
TOPIC = "posts"
QUICK = {"bootstrap_timeout_ms": 3000}  #: silence is given up soon
PLAIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule required"
LOGINS = [("PLAIN", "pat"), ("SCRAM-SHA-256", "sue"), ("SCRAM-SHA-512", "sam")]
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True)
class SecureBroker:
    """Addresses of the three listeners, and the files a client needs."""

    sasl: str
    mutual: str
    misnamed: str
    authority: Authority
    stranger: Authority  # whom the broker's certificate is not from
    client: tuple[Path, Path]  # certificate and key that the broker trusts

    @property
    def ca(self) -> Path:
        """What a client must trust."""
        return self.authority.ca


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """The broker, with one post in its topic."""
    server = real_server()
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    client = authority.issue("monitor")
    sasl, mutual, misnamed = (f"127.0.0.1:{free_port()}" for _ in range(3))
    made = SecureBroker(sasl, mutual, misnamed, authority, Authority(folder, "stranger"), client)
    process = _started(_command(server, folder, made), folder / "broker.log")
    try:
        _fill(made)
        yield made
    finally:
        process.kill()
        process.wait()


def _started(command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """The broker's process once it is up. Formatting fails one time in sixty-four (`fixtures_kafka.Broker.start`)."""
    processes: list[subprocess.Popen[bytes]] = []

    def is_up() -> bool:
        if not processes or processes[-1].poll() is not None:
            with log.open("ab") as out:
                processes.append(subprocess.Popen(command, stdout=out, stderr=out))
        return b"Kafka Server started" in log.read_bytes()

    try:
        wait_until(is_up, "the broker", 60)
    except AssertionError:
        processes[-1].kill()
        raise
    return processes[-1]


def _command(server: str, folder: Path, broker: SecureBroker) -> list[str]:
    good = broker.authority.issue_in_one("broker", "DNS:localhost", "IP:127.0.0.1")
    misnamed = broker.authority.issue_in_one("misnamed", "DNS:kafka.example")
    data, controller = folder / "data", f"127.0.0.1:{free_port()}"
    data.mkdir()
    (data / "controller.port").write_text(controller.rpartition(":")[2])
    listeners = f"CLIENT://{broker.sasl},MUTUAL://{broker.mutual},MISNAMED://{broker.misnamed}"
    users = f'user_pat="{PASSWORDS["pat"]}" user_broker="b"'
    properties = {
        "listeners": f"{listeners},CONTROLLER://{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CLIENT:SASL_SSL,MUTUAL:SSL,MISNAMED:SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": f'{PLAIN_MODULE} username="broker" password="b" {users};',
        "listener.name.client.scram-sha-256.sasl.jaas.config": SCRAM_MODULE,
        "listener.name.client.scram-sha-512.sasl.jaas.config": SCRAM_MODULE,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": good,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": broker.ca,
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.misnamed.ssl.keystore.type": "PEM",
        "listener.name.misnamed.ssl.keystore.location": misnamed,
    }
    scram = f"KAFKA_SCRAM=SCRAM-SHA-512=[name=sam,password={PASSWORDS['sam']}]"
    command = ["env", scram, server, str(data), broker.sasl.rpartition(":")[2]]
    return [*command, *(f"{name}={value}" for name, value in properties.items())]


def _fill(broker: SecureBroker) -> None:
    certificate, key = broker.client
    tls = {"security_protocol": "SSL", "ssl_cafile": str(broker.ca)}
    tls |= {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    with closing(KafkaAdminClient(bootstrap_servers=[broker.mutual], **tls)) as admin:
        admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1}})
        sue = UserScramCredentialUpsertion("sue", ScramMechanism.SCRAM_SHA_256, PASSWORDS["sue"])
        admin.alter_user_scram_credentials([sue])  # the broker is formatted with one mechanism only
    value = json.dumps({"created_at": "2026-11-20T09:00:00Z", "text": "a post over TLS"}).encode()
    with closing(KafkaProducer(bootstrap_servers=[broker.mutual], metrics_enabled=False, **tls)) as producer:
        producer.send(TOPIC, value=value).get(20)


def section_of(server: str, **settings: Any) -> dict[str, Any]:
    """A source's section of the configuration."""
    base = {"name": "posts", "kind": "kafka", "bootstrap_servers": [server], "topics": [TOPIC]}
    return base | {"group_id": f"group-{time.monotonic_ns()}", "options": QUICK} | settings


def sasl_section(broker: SecureBroker, mechanism: str, user: str, **settings: Any) -> dict[str, Any]:
    """A source that logs in over TLS."""
    login: dict[str, Any] = {"sasl_mechanism": mechanism, "username": user, "password_from": "KAFKA_PASSWORD"}
    login |= {"security_protocol": "SASL_SSL", "ssl_cafile": str(broker.ca), "options": QUICK}
    return section_of(broker.sasl, **(login | settings))


def source_of(section: dict[str, Any], password: str | None = None, base_dir: Path = Path()) -> KafkaTopics:
    """The source of a section, not opened."""
    checked = KafkaSection(**section)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    parser = Parser(checked, "acme", UTC)
    return KafkaTopics(checked, parser, MemoryPositions(), lambda: now, password=password, base_dir=base_dir)


def read_one(source: KafkaTopics) -> list[Record]:
    """What the source reads first."""
    found: list[Record] = []

    def look() -> bool:
        found.extend(source.poll(10, 0.2).records)
        return bool(found)

    with closing(source):
        source.open()
        wait_until(look, "a record", 30)
    return found


def refusal_of(section: dict[str, Any], password: str | None = None) -> str:
    """Why a source cannot be opened; kafka-python leaves the sockets of failed handshakes to the garbage collector."""
    source = source_of(section, password)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        said = ""
        with closing(source):
            try:
                source.open()
            except SourceUnavailable as error:
                said = str(error)
        del source
        gc.collect()
    return said


@pytest.mark.parametrize(("mechanism", "user"), LOGINS)
def test_posts_are_read_over_sasl_and_tls(broker: SecureBroker, mechanism: str, user: str) -> None:
    """Each mechanism logs in over a verified connection; the CA's path is relative to the configuration."""
    section = sasl_section(broker, mechanism, user, ssl_cafile=broker.ca.name)
    [record] = read_one(source_of(section, PASSWORDS[user], broker.ca.parent))
    assert isinstance(record, Post)
    assert record.text == "a post over TLS"


def test_posts_are_read_with_a_clients_certificate(broker: SecureBroker) -> None:
    """Mutual TLS: certificate and key of the monitor's own."""
    certificate, key = broker.client
    files = {"ssl_cafile": str(broker.ca), "ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    [record] = read_one(source_of(section_of(broker.mutual, security_protocol="SSL", **files)))
    assert isinstance(record, Post)


@pytest.mark.parametrize(("mechanism", "user"), LOGINS)
def test_a_wrong_password_is_said_and_not_shown(broker: SecureBroker, mechanism: str, user: str) -> None:
    """The sentence has place and user, so that it can be mended; the password is in it neither wrong nor right."""
    said = refusal_of(sasl_section(broker, mechanism, user), "not the s3cret")
    assert broker.sasl in said
    assert f"refused the user {user}" in said or f"at the login of the user {user}" in said
    assert "s3cret" not in said


def test_nobody_but_the_broker_gets_the_password(broker: SecureBroker) -> None:
    """A certificate of an authority that we do not trust ends the connection before any login, and is told."""
    section = sasl_section(broker, "PLAIN", "pat", ssl_cafile=str(broker.stranger.ca))
    said = refusal_of(section, PASSWORDS["pat"])
    assert "certificate" in said
    assert PASSWORDS["pat"] not in said


def test_the_systems_authorities_do_not_vouch_for_a_test_broker(broker: SecureBroker) -> None:
    """Without ssl_cafile those of the system are trusted, and still verified."""
    assert "certificate" in refusal_of(section_of(broker.misnamed, security_protocol="SSL"))


def test_a_broker_under_another_name_is_refused(broker: SecureBroker) -> None:
    """A good certificate for another host is not good here."""
    said = refusal_of(section_of(broker.misnamed, security_protocol="SSL", ssl_cafile=str(broker.ca)))
    assert "certificate" in said


def test_a_client_without_its_certificate_is_not_served(broker: SecureBroker) -> None:
    """Mutual TLS without ours: waited for with a sentence, not a crash."""
    said = refusal_of(section_of(broker.mutual, security_protocol="SSL", ssl_cafile=str(broker.ca)))
    assert broker.mutual in said


def test_speaking_plainly_to_a_tls_port_is_waited_for(broker: SecureBroker) -> None:
    """A forgotten security_protocol: unavailable within seconds."""
    assert broker.sasl in refusal_of(section_of(broker.sasl))


def test_missing_certificate_files_are_configuration_errors(broker: SecureBroker, tmp_path: Path) -> None:
    """A path that leads nowhere is named by its key at the start."""
    section = section_of(broker.mutual, security_protocol="SSL", ssl_cafile="nowhere.pem")
    with pytest.raises(ConfigError, match=r"sources\.posts\.ssl_cafile: there is no file .*nowhere\.pem"):
        source_of(section, base_dir=tmp_path)


def test_commands_ask_over_tls_too(broker: SecureBroker, tmp_path: Path, sqlite_url: str) -> None:
    """`check` sees the topic with the right password, and tells why not with a wrong one."""
    cli = make_cli(
        tmp_path, sqlite_url, {"KAFKA_PASSWORD": PASSWORDS["pat"]}, sources=[sasl_section(broker, "PLAIN", "pat")]
    )
    assert "1 partitions" in cli.run("check").output
    cli.env["KAFKA_PASSWORD"] = "wrong"
    refused = cli.run("check")
    assert "the user pat" in refused.output
    assert refused.exit_code == 69
