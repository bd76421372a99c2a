"""monitor/systemd.py against real datagram sockets, as systemd listens on them."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, write_config
from ports import free_port

from monitor.systemd import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET as systemd would spell it, and the socket that listens there."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@sentiment-monitor-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1))
        receiver.settimeout(5)
        yield name, receiver


def test_every_message_arrives_as_systemd_spells_it(listener: tuple[str, socket.socket]) -> None:
    """Readiness, watchdog and stop arrive on file and abstract sockets, each as one datagram of assignments."""
    name, receiver = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000"})
    manager.ready("2 sources,\nsocial-gru on cpu")
    manager.alive()
    manager.stopping()
    assert [receiver.recv(4096).decode() for _ in range(3)] == [
        "READY=1\nSTATUS=2 sources, social-gru on cpu",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=finishing the batch in hand",
    ]


def _n_queued(receiver: socket.socket) -> int:
    n_queued = 0
    with contextlib.suppress(BlockingIOError):
        while receiver.recv(4096):
            n_queued += 1
    return n_queued


def test_a_manager_that_does_not_read_stops_nothing(listener: tuple[str, socket.socket]) -> None:
    """A full queue drops messages at once instead of blocking the loop that sends them, and later ones arrive again."""
    name, receiver = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    for _ in range(5000):
        manager.ready("busy")
    receiver.settimeout(0)
    assert 0 < _n_queued(receiver) < 5000
    manager.ready("idle")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=idle"


@pytest.mark.parametrize("name", [None, "", "/nowhere/notify", "@" + "x" * 200])
def test_without_a_listening_manager_nothing_happens(name: str | None) -> None:
    """No socket, a socket that is gone and a name that cannot be one are all harmless."""
    manager = ServiceManager({} if name is None else {"NOTIFY_SOCKET": name})
    manager.ready("ok")
    manager.stopping()
    assert manager.watchdog_s is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_one_waits_for_us(environ: dict[str, str], expected: float | None) -> None:
    """The interval comes from WATCHDOG_USEC unless WATCHDOG_PID names another one."""
    assert ServiceManager(environ).watchdog_s == expected


def _messages_until(receiver: socket.socket, wanted: str, n: int = 1) -> list[str]:
    """What arrives until `wanted` was in `n` messages; TimeoutError where nothing comes for 60 s."""
    receiver.settimeout(60)
    seen: list[str] = []
    while sum(wanted in message for message in seen) < n:
        seen.append(receiver.recv(4096).decode())
    return seen


@pytest.mark.parametrize("listener", ["path"], indirect=True)
def test_a_daemon_without_its_database_is_alive(listener: tuple[str, socket.socket], tmp_path: Path) -> None:
    """While the database is away READY=1 comes once, the watchdog is fed all the time, and SIGTERM ends it with 0."""
    name, receiver = listener
    config = write_config(tmp_path, store={"url": f"postgresql://nobody@127.0.0.1:{free_port()}/nowhere"})
    with DaemonProcess(config, env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"}) as daemon:
        began = _messages_until(receiver, "READY=1")
        assert daemon.process is not None
        assert "STATUS=" in began[-1]
        assert all("READY=1" not in message for message in _messages_until(receiver, "WATCHDOG=1", n=3))
        assert daemon.stop() == 0
        assert "STOPPING=1" in _messages_until(receiver, "STOPPING=1")[-1]
