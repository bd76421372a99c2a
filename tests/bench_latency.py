"""From append to committed row: a steady stream into Kafka, and when each post was committed in PostgreSQL."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from bench_measure import Figure
from bench_path import Services, daemon_config, kafka_section, positions_of
from daemon_process import DaemonProcess, wait_until
from kafka import KafkaProducer

SECTION = "Latency from append to committed row at 500 posts/s"
POSTS_PER_S = 500
WARM_UP_S = 5.0
TARGET_MS = 500.0
LOOK_S = 0.002


def latencies(services: Services, values: Sequence[bytes], seconds: float, device: str) -> Iterator[Figure]:
    """Median and 99th percentile in milliseconds; what was appended in the first seconds is left out."""
    topic = services.broker.create_topic(services.broker.new_name("steady"))
    url = services.postgres.create()
    config = daemon_config(services.folder / topic, kafka_section(services, topic), url, device)
    with DaemonProcess(config) as daemon, positions_of(url) as n_passed:
        daemon.wait_ready()
        feed = Feed(services.broker.servers, topic, values[: int(POSTS_PER_S * (seconds + WARM_UP_S))])
        seen = _watch(feed, n_passed)
        daemon.stop()
    waited_ms = np.array(
        [(seen[number] - at) * 1_000 for number, at in enumerate(feed.sent)][int(POSTS_PER_S * WARM_UP_S) :]
    )
    yield Figure(SECTION, "median", float(np.median(waited_ms)), "ms")
    p99 = float(np.quantile(waited_ms, 0.99))
    yield Figure(SECTION, "99th percentile", p99, "ms", target=f"at most {TARGET_MS:.0f} ms", ok=p99 <= TARGET_MS)


class Feed:
    """Sends one message every 2 ms, each at its own time; `sent` has those times (monotonic seconds), in order."""

    def __init__(self, servers: list[str], topic: str, values: Sequence[bytes]) -> None:
        self.n = len(values)
        self.sent: list[float] = []
        self._producer: Any = KafkaProducer(bootstrap_servers=servers, linger_ms=0)
        self._producer.partitions_for(topic)
        self._thread = threading.Thread(target=self._send, args=(topic, values), daemon=True)
        self._thread.start()

    def _send(self, topic: str, values: Sequence[bytes]) -> None:
        began = time.monotonic()
        for number, value in enumerate(values):
            time.sleep(max(0.0, began + number / POSTS_PER_S - time.monotonic()))
            self.sent.append(time.monotonic())
            self._producer.send(topic, value, partition=0)
        self._producer.close()


def _watch(feed: Feed, n_passed: Any) -> list[float]:
    """When each message was first seen to be behind the committed position, in the order of the messages."""
    seen: list[float] = []

    def look() -> bool:
        n, now = n_passed(), time.monotonic()
        seen.extend([now] * (n - len(seen)))
        time.sleep(LOOK_S)
        return len(seen) >= feed.n

    until = time.monotonic() + feed.n / POSTS_PER_S + 30
    while not look():
        if time.monotonic() > until:
            raise RuntimeError(f"{len(seen)} of {feed.n} posts were committed in time")
    return seen


def start_times(services: Services, device: str) -> Iterator[Figure]:
    """From the process's start to /readyz, ingesting, and `--role schedule`."""
    section = "Start to ready"
    for role, arguments, most_s in (("all", [], 4.0), ("schedule", ["--role", "schedule"], 2.0)):
        times = [_start_s(services, f"{role}{turn}", arguments, device) for turn in range(4)][
            1:
        ]  # the first fills disk caches
        median = sorted(times)[1]
        yield Figure(section, f"--role {role}", median, "s", target=f"at most {most_s:.0f} s", ok=median <= most_s)


def _start_s(services: Services, name: str, arguments: Sequence[str], device: str) -> float:
    folder = services.folder / f"start-{name}"
    source = {"name": "inbox", "kind": "drop_folder", "path": "inbox"}
    config = daemon_config(folder, source, f"sqlite:///{folder}/sentiment.db", device)
    began = time.monotonic()
    with DaemonProcess(config, *arguments) as daemon:
        while not daemon.is_ready():
            time.sleep(0.01)
        seconds = time.monotonic() - began
        wait_until(lambda: daemon.ask("/livez")[0] == 200, "the first turns")
        daemon.stop()
    return seconds
