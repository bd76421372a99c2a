"""`python tests/acceptance.py [CHECK...]`: what the monitor promises, tried at full size with real services.

Each check prints what it measured and PASS or FAIL; the exit code is 1 if one failed. `--list` names them. They need
about half an hour on two free cores, Java and the Kafka broker of fixtures_kafka.py, and leave nothing behind.
"""

import argparse
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import psutil
from daemon_process import DaemonProcess, command, environment, free_port, wait_until, write_config
from fixtures_kafka import Broker, real_broker
from fixtures_postgres import PostgresServer, running_postgres
from fixtures_slack import Answer, FakeSlack, running_slack
from sites import Site, copied_database, restore_database
from stored import check_days, check_file, check_totals, count, is_refreshed, n_posts, posts, select, url_in
from traffic import Producing, csv_bytes, drop, messages, rows

BUNDLE = "social-gru"
AWAY_S = 30.0
MAX_RESIDENT_MIB = 600
MAX_GROWTH_MIB = 40  #: from the second to the last quarter of the file: flat
STOP_S = 25.0


class Ground:
    """What the checks stand on: a folder, and services that start when they are first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._n_folders = 0
        self._broker: Broker | None = None
        self._postgres: PostgresServer | None = None

    def folder(self) -> Path:
        """A new one."""
        self._n_folders += 1
        folder = self._folder / str(self._n_folders)
        folder.mkdir()
        return folder

    @property
    def broker(self) -> Broker:
        """Apache Kafka."""
        if self._broker is None:
            self._broker = real_broker(self.folder())
            self._stack.callback(self._broker.stop)
        return self._broker

    @property
    def postgres(self) -> PostgresServer:
        """PostgreSQL."""
        if self._postgres is None:
            self._postgres = self._stack.enter_context(running_postgres())
        return self._postgres

    def site(self, n_partitions: int) -> Site:
        """A topic and a database, with the monitor as it is shipped."""
        site = Site(self.broker, self.postgres.create(), self.folder(), BUNDLE, n_partitions)
        site.source["options"] = {}
        site.sections["scoring"] = {"bundle": BUNDLE}
        return site


Check = Callable[[Ground], Iterator[str]]


def csv_file(ground: Ground) -> Iterator[str]:
    """15,000 posts with equal rows by CSV equal pandas; again with ten rows corrected adds ten."""
    folder = ground.folder()
    config = write_config(folder, scoring={"bundle": BUNDLE})
    given = rows(15_000)
    content = drop(folder, "posts.csv", csv_bytes(given))
    began = time.monotonic()
    assert command("run", "--once", config=config).returncode == 0
    yield f"15000 rows in {time.monotonic() - began:.1f} s, start included"
    n_days = check_file(url_in(folder), content)
    check_totals(url_in(folder))
    n_equal = len(given) - len({tuple(row.items()) for row in given})
    yield f"rows, {n_days} daily rows and ma3 equal pandas; {n_equal} rows repeat another"
    for number in range(10):
        given[number * 500] = given[number * 500] | {"text": f"corrected {number}"}
    drop(folder, "again.csv", csv_bytes(given))
    done = command("run", "--once", config=config)
    assert f"10 counted, {15_000 - 10} seen before" in done.stdout, done.stdout
    assert n_posts(url_in(folder)) == 15_010
    check_totals(url_in(folder))
    check_days(url_in(folder), posts(url_in(folder)))
    yield "the corrected file added 10"


def kafka_kills(ground: Ground) -> Iterator[str]:
    """50,000 posts by Kafka into PostgreSQL, killed three times, producing all the while."""
    site = ground.site(4)
    config = site.config()
    n_messages = 50_000
    with Producing(site.broker.servers, site.topic, messages(n_messages, 4), per_s=600) as producing:
        for share in (0.15, 0.4, 0.65):
            with DaemonProcess(config) as daemon:
                site.wait_for(int(n_messages * share), 300)
                daemon.kill()
                yield f"killed at {site.n_records()} of {producing.n_sent} records"
        with DaemonProcess(config) as daemon:
            producing.finish()
            site.check(producing.sent, 300)
            assert daemon.stop() == 0
    yield _counts(site)


def replicas(ground: Ground) -> Iterator[str]:
    """Three replicas, six partitions, one killed; one message per episode."""
    site = ground.site(6)
    with running_slack() as slack, ExitStack() as stack:
        rules = {"threshold": 1.0, "certainty": 0, "hold_s": 5, "slack": {"base_url": slack.url}}
        env = {"SLACK_BOT_TOKEN": slack.token}
        producing = stack.enter_context(
            Producing(site.broker.servers, site.topic, messages(30_000, 6, seed=2), per_s=500)
        )
        daemons = [stack.enter_context(DaemonProcess(site.config(alerts=rules), env=env)) for _ in range(3)]
        wait_until(lambda: all(daemon.is_ready() for daemon in daemons), "three replicas", 120)
        site.wait_for(10_000, 300)
        daemons[0].kill()
        yield f"one of three killed at {site.n_records()} of {producing.n_sent} records"
        producing.finish()
        site.check(producing.sent, 300)
        waiting = "SELECT count(*) FROM alerts WHERE state IN ('pending', 'sending', 'unknown')"
        wait_until(lambda: len(slack.keys()) >= 5 and not count(site.url, waiting), "the messages", 120)
        assert [daemon.stop() for daemon in daemons[1:]] == [0, 0]
        keys = slack.keys()
    assert len(set(keys)) == len(keys), keys
    dips = select(site.url, "SELECT episode FROM alerts WHERE state = 'sent' AND kind = 'dip'")["episode"]
    assert dips.is_unique
    yield _counts(site)
    yield f"{len(keys)} messages, none twice; {len(dips)} episodes, each announced once"


def bad_input(ground: Ground) -> Iterator[str]:
    """Every row of the bad-input table, by CSV and by Kafka: the tests of the suite have them at full size."""
    here = Path(__file__).parent
    files = [
        str(here / "test_end_to_end_bad_csv.py"),
        str(here / "test_end_to_end_kafka.py"),
        str(here / "test_daemon.py"),
    ]
    line = [sys.executable, "-m", "pytest", "-q", "--no-header", "-k", "bad or quote or unusable", *files]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=here.parent, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    yield done.stdout.strip().splitlines()[-1]


def outages(ground: Ground) -> Iterator[str]:
    """Broker, database and Slack each away for 30 s under load, one daemon all the while."""
    site = ground.site(3)
    slack_port = free_port()
    rules = {
        "threshold": 1.0,
        "certainty": 0,
        "hold_s": 5,
        "slack": {"base_url": f"http://127.0.0.1:{slack_port}/api/"},
    }
    config = site.config(alerts=rules)
    with ExitStack() as stack:
        producing = stack.enter_context(Producing(site.broker.servers, site.topic, messages(200_000, 3), per_s=200))
        daemon = stack.enter_context(DaemonProcess(config, env={"SLACK_BOT_TOKEN": "xoxb-good"}))

        def comes_back(what: str, go: Callable[[], None], come_back: Callable[[], None]) -> str:
            _gain(site, daemon, 1_000)
            go()
            try:
                time.sleep(AWAY_S)
                seen = daemon.ask("/readyz")
            finally:
                come_back()
            began = time.monotonic()
            _gain(site, daemon, 1_000)
            wait_until(lambda: site.n_records() >= producing.n_sent - 1_000, "catching up", 120)
            down = [line for line in seen[1].splitlines() if line.startswith("WAIT")]
            return f"{what}: /readyz {seen[0]} {down}, caught up {time.monotonic() - began:.1f} s after"

        yield comes_back("broker stopped with SIGSTOP", site.broker.freeze, site.broker.thaw)
        yield comes_back("database stopped with SIGSTOP", ground.postgres.freeze, ground.postgres.thaw)
        yield comes_back("database shut down", ground.postgres.stop, ground.postgres.start)
        wait_until(lambda: "warn slack" in daemon.ask("/readyz")[1], "Slack to be missed")
        assert daemon.ask("/readyz")[0] == 200
        slack = stack.enter_context(running_slack(slack_port))
        slack.script.extend([Answer(status=503, posts=False)] * 2)
        waiting = "SELECT count(*) FROM alerts WHERE state IN ('pending', 'sending', 'unknown')"
        wait_until(lambda: len(slack.keys()) >= 5 and not count(site.url, waiting), "the messages", 420)
        yield f"Slack refused connections all that time, then answered 503 twice: {len(slack.keys())} messages after"
        producing.stop()
        site.check(producing.sent, 120)
        assert daemon.stop() == 0
        sent = select(site.url, "SELECT alert_key FROM alerts WHERE state = 'sent'")["alert_key"]
        assert sorted(slack.keys()) == sorted(sent)
    yield _counts(site)


def restored(ground: Ground) -> Iterator[str]:
    """A database restored from an older copy, while the daemon is stopped and while it runs."""
    site = ground.site(3)
    config = site.config()
    with DaemonProcess(config) as daemon:
        sent = site.produce(messages(5_000, 3, seed=3))
        site.wait_for(5_000, 120)
        assert daemon.stop() == 0
    copied = copied_database(site.url)
    with DaemonProcess(config) as daemon:
        sent += site.produce(messages(5_000, 3, seed=4))
        site.wait_for(10_000, 120)
        assert daemon.stop() == 0
    restore_database(site.url, copied)
    with DaemonProcess(config) as daemon:
        site.check(sent, 120)
        yield f"while stopped: {_counts(site)}"
        restore_database(site.url, copied)
        sent += site.produce(messages(1_000, 3, seed=5))
        site.check(sent, 120)
        yield f"while running: {_counts(site)}"
        assert daemon.stop() == 0


def memory(ground: Ground) -> Iterator[str]:
    """Resident memory while taking in a CSV of 1,000,000 rows."""
    folder = ground.folder()
    config = write_config(folder, scoring={"bundle": BUNDLE}, schedule={"refresh_s": 5})
    content = _million_rows(folder)
    url = url_in(folder)
    curve: list[tuple[float, int, float]] = []  # seconds, posts, MiB
    with DaemonProcess(config) as daemon:
        assert daemon.process is not None
        process = psutil.Process(daemon.process.pid)
        began = time.monotonic()
        while not curve or curve[-1][1] < content:
            assert time.monotonic() - began < 1_500, f"only {curve[-1][1]} rows in 25 minutes"
            assert daemon.process.poll() is None, daemon.log()[-2000:]
            time.sleep(2)
            curve.append((time.monotonic() - began, n_posts(url), process.memory_info().rss / 2**20))
        wait_until(lambda: is_refreshed(url), "the daily rows")
        peak = _peak_mib(process)
        assert daemon.stop() == 0
    check_totals(url)
    reading = [mib for _, n_rows, mib in curve if n_rows]
    quarters = [
        statistics.median(reading[part * len(reading) // 4 : (part + 1) * len(reading) // 4]) for part in range(4)
    ]
    yield f"{content} rows in {curve[-1][0]:.0f} s ({content / curve[-1][0]:.0f}/s)"
    yield f"resident MiB: peak {peak:.0f}, median of each quarter {', '.join(f'{mib:.0f}' for mib in quarters)}"
    assert peak <= MAX_RESIDENT_MIB
    assert quarters[3] - quarters[1] <= MAX_GROWTH_MIB


def start(ground: Ground) -> Iterator[str]:
    """From start to ready on the embedded default; `--help`."""
    times = []
    for _ in range(3):
        folder = ground.folder()
        assert subprocess.run([*_program(), "init"], cwd=folder, capture_output=True, check=False).returncode == 0
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("port: 8080", f"port: {free_port()}"))
        began = time.monotonic()
        with DaemonProcess(config) as daemon:
            daemon.wait_ready()
            times.append(time.monotonic() - began)
            assert daemon.stop() == 0
    helps = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run([*_program(), "--help"], check=True, capture_output=True, env=environment())
        helps.append(time.monotonic() - began)
    yield f"start to ready: {', '.join(f'{one:.1f}' for one in times)} s"
    yield f"--help: median {statistics.median(helps):.2f} s of 5"
    assert min(times) <= 5
    assert min(helps) <= 0.5


def stops(ground: Ground) -> Iterator[str]:
    """SIGTERM and SIGINT in every state: exit 0 within 25 s."""
    site = ground.site(1)
    with running_slack() as slack:
        rules = {"threshold": 1.0, "certainty": 0, "min_posts": 1, "hold_s": 0, "slack": {"base_url": slack.url}}
        config = site.config(alerts=rules)

        def stop(number: signal.Signals = signal.SIGTERM) -> float:
            began = time.monotonic()
            assert daemon.stop(number, STOP_S) == 0
            return time.monotonic() - began

        def started() -> DaemonProcess:
            return stack.enter_context(DaemonProcess(config, env={"SLACK_BOT_TOKEN": slack.token}))

        with ExitStack() as stack:
            daemon = started().wait_ready()
            yield f"idle: {stop(signal.SIGINT):.1f} s"
            daemon = started().wait_ready()
            with Producing(site.broker.servers, site.topic, messages(6_000), per_s=2_000):
                site.wait_for(1_000)
                yield f"busy: {stop():.1f} s"
            daemon = started()
            with _frozen(daemon, site.broker.freeze, site.broker.thaw):
                yield f"broker frozen: {stop():.1f} s"
            daemon = started()
            with (
                Producing(site.broker.servers, site.topic, messages(20_000, seed=2), per_s=1_000) as producing,
                _frozen(daemon, ground.postgres.freeze, ground.postgres.thaw),
            ):
                yield f"database frozen: {stop():.1f} s"
                producing.stop()
            daemon = started()
            with _frozen(daemon, ground.postgres.stop, ground.postgres.start):
                yield f"database down: {stop():.1f} s"
            yield _slack_hangs(slack, ground, stack)


def demo(ground: Ground) -> Iterator[str]:
    """`demo`: the alert on the terminal within 60 s."""
    began = time.monotonic()
    output = ground.folder() / "demo.txt"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*_program(), "demo", "--port", str(free_port())], stdout=out, stderr=out, env=environment()
        )
    try:
        wait_until(lambda: "threshold" in output.read_text(errors="replace").lower(), "the alert", 75)
        took = time.monotonic() - began
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(25)
    yield f"the alert after {took:.1f} s, exit {code}"
    assert took <= 60
    assert code == 0


CHECKS: dict[str, tuple[Check, int]] = {  # with the seconds that it may take
    "start": (start, 120),
    "demo": (demo, 120),
    "csv": (csv_file, 300),
    "bad-input": (bad_input, 300),
    "kafka-kills": (kafka_kills, 600),
    "replicas": (replicas, 600),
    "restored": (restored, 400),
    "outages": (outages, 900),
    "stops": (stops, 400),
    "memory": (memory, 1_800),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="default: all")
    parser.add_argument("--list", action="store_true", help="name the checks")
    wanted = parser.parse_args(arguments)
    if unknown := set(wanted.checks) - set(CHECKS):
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    if wanted.list:
        for name, (check, _) in CHECKS.items():
            _say(f"{name:12} {check.__doc__}")
        return 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="sentiment-acceptance-")))
        ground = Ground(folder, stack)
        passed = [_passes(name, ground) for name in wanted.checks or CHECKS]
    _say(f"{sum(passed)} of {len(passed)} passed")
    return 0 if all(passed) else 1


def _passes(name: str, ground: Ground) -> bool:
    check, limit_s = CHECKS[name]
    _say(f"{name}: {check.__doc__}")
    began = time.monotonic()
    try:
        with _at_most(limit_s):
            for line in check(ground):
                _say(f"    {line}")
    except Exception as error:  # noqa: BLE001 - whatever it was, the next check is tried
        trace = traceback.extract_tb(error.__traceback__)[-1]
        took_s = time.monotonic() - began
        _say(f"  FAIL {name} after {took_s:.0f} s: {type(error).__name__} {error} ({trace.name}:{trace.lineno})")
        return False
    _say(f"  PASS {name} in {time.monotonic() - began:.0f} s")
    return True


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done in {seconds} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextmanager
def _frozen(daemon: DaemonProcess, go: Callable[[], None], come_back: Callable[[], None]) -> Iterator[None]:
    daemon.wait_ready()
    go()
    try:
        time.sleep(3)  # for the daemon to run into it
        yield
    finally:
        come_back()


def _slack_hangs(slack: FakeSlack, ground: Ground, stack: ExitStack) -> str:
    slack.script.append(Answer(silent=True))
    n_before = slack.n_requests
    folder = ground.folder()
    rules = {"threshold": 1.0, "certainty": 0, "min_posts": 1, "hold_s": 0, "slack": {"base_url": slack.url}}
    config = write_config(folder, scoring={"bundle": BUNDLE}, alerts=rules)
    drop(folder, "posts.csv", csv_bytes(rows(50)))
    daemon = stack.enter_context(DaemonProcess(config, env={"SLACK_BOT_TOKEN": slack.token}))
    wait_until(lambda: slack.n_requests > n_before, "a message on its way")
    began = time.monotonic()
    assert daemon.stop() == 0
    return f"Slack hanging: {time.monotonic() - began:.1f} s"


def _gain(site: Site, daemon: DaemonProcess, n_records: int) -> None:
    target = site.n_records() + n_records
    wait_until(lambda: site.n_records() > target and daemon.is_ready(), f"{n_records} more records", 120)


def _counts(site: Site) -> str:
    n_letters = count(site.url, "SELECT count(*) FROM dead_letters")
    stored = f"{n_posts(site.url)} posts and {n_letters} dead letters of {site.n_records()} records"
    return f"{stored}, each once; totals equal a recount"


def _million_rows(folder: Path) -> int:
    """Write 1,000,000 rows into the inbox, 20 copies of 50,000 with different authors; returns how many."""
    given = rows(50_000, seed=9)
    part = folder / "inbox" / "million.csv.part"
    part.parent.mkdir()
    with part.open("wb") as file:
        for turn in range(20):
            content = csv_bytes([row | {"user_id": f"{row['user_id']}-{turn}"} for row in given])
            file.write(content if turn == 0 else content.partition(b"\n")[2])
    part.rename(part.with_suffix(""))
    return 20 * len(given)


def _peak_mib(process: psutil.Process) -> float:
    """The most that a process ever had resident."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _program() -> list[str]:
    return [sys.executable, "-m", "monitor"]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
