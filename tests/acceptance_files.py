"""Acceptance checks that need no service: the embedded default, files, memory, start and demo."""

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from acceptance_ground import BUNDLE, Ground, program
from daemon_process import DaemonProcess, command, environment, wait_until, write_config
from ports import free_port
from stored import check_days, check_file, check_totals, is_refreshed, n_posts, posts, url_in
from traffic import csv_bytes, drop, rows

MAX_RESIDENT_MIB = 600
MAX_GROWTH_MIB = 40  #: from the second to the last quarter of the file: flat


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
        assert subprocess.run([*program(), "init"], cwd=folder, capture_output=True, check=False).returncode == 0
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
        subprocess.run([*program(), "--help"], check=True, capture_output=True, env=environment())
        helps.append(time.monotonic() - began)
    yield f"start to ready: {', '.join(f'{one:.1f}' for one in times)} s"
    yield f"--help: median {statistics.median(helps):.2f} s of 5"
    assert min(times) <= 5
    assert min(helps) <= 0.5


def demo(ground: Ground) -> Iterator[str]:
    """`demo`: the alert on the terminal within 60 s."""
    began = time.monotonic()
    output = ground.folder() / "demo.txt"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*program(), "demo", "--port", str(free_port())], stdout=out, stderr=out, env=environment()
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
