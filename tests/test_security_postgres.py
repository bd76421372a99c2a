"""PostgreSQL over TLS with verification, against Debian's server: the test extra's is built without OpenSSL."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from authority import Authority
from batches import post, rows, rules, scored
from cli_runs import make_cli
from daemon_process import wait_until
from ports import free_port
from services import require

from monitor.config import Config, StoreSection
from monitor.errors import StoreUnavailable
from monitor.store import migrate
from monitor.store.database import Database
from monitor.store.saving import Saver

pytestmark = pytest.mark.postgres

PASSWORD = "d4tabase's secret"


@dataclass(frozen=True)
class TlsServer:
    """A server that takes logins over TLS only; its certificate is for the name localhost."""

    port: int
    authority: Authority
    stranger: Authority

    def url(self, host: str = "localhost", **query: str) -> str:
        """URL of its database."""
        options = "&".join(f"{name}={value}" for name, value in query.items())
        return f"postgresql://postgres@{host}:{self.port}/postgres?{options}"

    def verified(self, ca: Path | None = None, host: str = "localhost") -> str:
        """URL that asks for a certificate of `ca` in the name of `host`."""
        return self.url(host, sslmode="verify-full", sslrootcert=str(ca or self.authority.ca))


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    """The server, in a folder that its own user may enter."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    require(bool(programs), "PostgreSQL with OpenSSL (/usr/lib/postgresql)")
    with TemporaryDirectory(prefix="sentiment-tls-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = TlsServer(free_port(), Authority(folder), Authority(folder, "stranger"))
        process = _start(programs[-1], folder, made)
        try:
            wait_until(lambda: process.poll() is not None or _answers(made), "the database server", 30)
            assert process.poll() is None, (folder / "server.log").read_text()
            yield made
        finally:
            process.terminate()
            process.wait(20)


def _start(programs: Path, folder: Path, server: TlsServer) -> "subprocess.Popen[bytes]":
    certificate, key = server.authority.issue("database", "DNS:localhost")
    data, secret = folder / "data", folder / "password"
    secret.write_text(PASSWORD)
    user = "postgres" if os.geteuid() == 0 else None
    for path in (folder, certificate, key, secret):
        if user:
            shutil.chown(path, user)
    key.chmod(0o600)
    create: list[str | Path] = [programs / "initdb", "-D", data, "-U", "postgres", "--no-sync"]
    create += ["--auth=scram-sha-256", f"--pwfile={secret}"]
    subprocess.run(create, check=True, capture_output=True, user=user, cwd="/")
    (data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
    settings = {"listen_addresses": "127.0.0.1", "port": server.port, "unix_socket_directories": folder, "ssl": "on"}
    settings |= {"ssl_cert_file": certificate, "ssl_key_file": key, "fsync": "off"}
    options = [f"--{name}={value}" for name, value in settings.items()]
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            [programs / "postgres", "-D", data, *options], stdout=log, stderr=log, user=user, cwd="/"
        )


def _answers(server: TlsServer) -> bool:
    db = Database(server.url(sslmode="require"), PASSWORD)
    try:
        return db.read(lambda _: True)
    except StoreUnavailable:
        return False
    finally:
        db.close()


def refusal_of(url: str, password: str = PASSWORD) -> str:
    """Why the database is not available; it must say so within seconds."""
    db = Database(url, password)
    began = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable) as caught:
            db.read(lambda _: None)
    finally:
        db.close()
    assert time.monotonic() - began < 10
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def test_posts_are_stored_over_verified_tls(server: TlsServer) -> None:
    """sslmode=verify-full with the authority's file: migrated, written and read, and the server says that it is TLS."""
    db = Database(server.verified(), PASSWORD)
    try:
        migrate.upgrade(db)
        Saver(db, rules()).save(scored([post(0)]))
        assert rows(db, "SELECT count(*) FROM posts") == [(1,)]
        assert rows(db, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
    finally:
        db.close()


def test_the_authoritys_file_is_found_beside_the_configuration(server: TlsServer, tmp_path: Path) -> None:
    """A relative sslrootcert is relative to config.yaml, like every other path; `check` reaches the store with it."""
    shutil.copy(server.authority.ca, tmp_path / "our ca.pem")
    url = server.url(sslmode="verify-full", sslrootcert="our%20ca.pem")
    found = make_cli(tmp_path, url, {"DATABASE_PASSWORD": PASSWORD}).run("check").output
    assert f"postgresql://postgres@localhost:{server.port}/postgres answers" in found or "up to date" in found
    assert "unencrypted" not in found
    assert PASSWORD not in found


@pytest.mark.parametrize("value", ["system", "/etc/ca.pem"])
def test_other_places_of_the_authoritys_file_stay(value: str) -> None:
    """An absolute path, and the word with which libpq takes the system's authorities."""
    url = f"postgresql://sam@db/x?sslrootcert={value}&sslmode=verify-full"
    assert Config(store=StoreSection(url=url), base_dir=Path("/somewhere")).store_url() == url


def test_a_certificate_of_another_authority_is_refused(server: TlsServer) -> None:
    """Nobody else gets the password: the sentence says that the certificate was not trusted."""
    assert "certificate verify failed" in refusal_of(server.verified(server.stranger.ca))


def test_a_certificate_for_another_name_is_refused(server: TlsServer) -> None:
    """verify-full compares the name: the same server under its address is not the one we asked for."""
    assert "does not match host name" in refusal_of(server.verified(host="127.0.0.1"))


def test_a_server_that_wants_tls_takes_no_other_connection(server: TlsServer) -> None:
    """Without encryption the login is refused, which is waited for and told."""
    assert "no encryption" in refusal_of(server.url(sslmode="disable"))


def test_a_wrong_password_is_told_and_waited_for(server: TlsServer) -> None:
    """A login that fails may be mended from outside: unavailable, not a crash."""
    assert "password authentication failed" in refusal_of(server.verified(), "wrong")


def test_a_missing_file_of_the_authority_is_told(server: TlsServer, tmp_path: Path) -> None:
    """libpq's own words name the file."""
    assert "nowhere.pem" in refusal_of(server.verified(tmp_path / "nowhere.pem"))
