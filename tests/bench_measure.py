"""What the benchmark counts: wall time, CPU time by process, peak memory; pairs, medians, and the tables of them."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil

PACKAGES = ("torch", "numpy", "pandas", "sqlalchemy", "psycopg", "kafka-python", "onnxruntime", "vaderSentiment")


@dataclass(frozen=True)
class Figure:
    """One line of a table. `ratio` is against the line that `against` names."""

    section: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    against: str | None = None
    target: str | None = None
    ok: bool | None = None


@dataclass
class Report:
    """Everything one run found; printed as it comes, written as JSON at the end."""

    machine: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    _section: str = ""

    def add(self, figure: Figure) -> None:
        """Note a figure and print its line, under a heading where a section begins."""
        if figure.section != self._section:
            self._section = figure.section
            print(f"\n{figure.section}", flush=True)
        self.figures.append(figure)
        print(line_of(figure), flush=True)

    def write(self, path: Path) -> None:
        """All of it as JSON, and beside that as a page of text."""
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {"machine": self.machine, "figures": [asdict(figure) for figure in self.figures]}
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text("\n".join(self._page()) + "\n", encoding="utf-8")

    def _page(self) -> Iterator[str]:
        """Machine, date and figures, to be kept with the project."""
        yield f"# Measured {self.machine['at']}"
        yield ""
        yield from (f"- {name}: {value}" for name, value in self.machine.items() if name != "at")
        for section in dict.fromkeys(figure.section for figure in self.figures):
            yield from ("", f"## {section}", "", "```text")
            yield from (line_of(figure).strip() for figure in self.figures if figure.section == section)
            yield "```"


def line_of(figure: Figure) -> str:
    """A line of the printed table."""
    value = f"{figure.value:>12,.0f}" if abs(figure.value) >= 100 else f"{figure.value:>12,.3f}"
    ratio = f"{figure.ratio:7.1f} x {figure.against}" if figure.ratio is not None else ""
    verdict = {True: "ok", False: "MISSED", None: ""}[figure.ok]
    target = f"{verdict} ({figure.target})" if figure.target else ""
    return f"  {figure.what:46} {value} {figure.unit:14} {ratio:28} {target}".rstrip()


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def rate(work: Callable[[], int]) -> float:
    """Posts per second of one call, which returns how many it did."""
    began = time.perf_counter()
    n = work()
    return n / (time.perf_counter() - began)


class Compared(NamedTuple):
    """Posts per second of two that took turns, medians, and the median of the pairs' ratios (first over second)."""

    first: float
    second: float
    ratio: float


def compare(first: Callable[[], int], second: Callable[[], int], n_pairs: int = 5) -> Compared:
    """Measure pair by pair, the one that begins alternating, after one unmeasured call of each."""
    first(), second()
    pairs = []
    for number in range(n_pairs):
        if number % 2:
            second_rate = rate(second)
            pairs.append((rate(first), second_rate))
        else:
            pairs.append((rate(first), rate(second)))
    firsts, seconds = zip(*pairs, strict=True)
    return Compared(statistics.median(firsts), statistics.median(seconds), statistics.median(a / b for a, b in pairs))


class Usage(NamedTuple):
    """CPU seconds so far and peak resident MiB of some processes with their children."""

    cpu_s: float
    peak_mib: float


def usage(processes: Sequence[psutil.Process]) -> Usage:
    """What these processes and their living children have used; a process that ended counts nothing."""
    cpu_s, peak_mib = 0.0, 0.0
    for process in _family(processes):
        try:
            times = process.cpu_times()
            cpu_s += times.user + times.system
            peak_mib += _peak_mib(process)
        except psutil.NoSuchProcess:
            continue
    return Usage(cpu_s, peak_mib)


def _family(processes: Sequence[psutil.Process]) -> set[psutil.Process]:
    found = set(processes)
    for process in processes:
        try:
            found.update(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return found


def _peak_mib(process: psutil.Process) -> float:
    """The kernel's own high-water mark where it tells it (Linux), else what is resident now."""
    status = Path(f"/proc/{process.pid}/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return float(process.memory_info().rss) / 2**20
