"""What the benchmark counts: wall time, CPU time by process, peak memory; pairs, medians, and the tables of them."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

PACKAGES = ("torch", "numpy", "pandas", "sqlalchemy", "psycopg", "kafka-python", "onnxruntime", "vaderSentiment")


TIMES = ("ms", "s")  #: units of what is judged only where nothing else ran
BUSY_LOAD = 0.5  #: processes that want to run before it began: ratios hold, absolute figures do not


@dataclass(frozen=True)
class Figure:
    """One line of a table. `ratio` is against the line that `against` names; `ok` is None where it was not judged."""

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
    """What this run and earlier ones on the same machine found, by section; printed as it comes.

    A section that is measured again takes the place of its older self; each says when, at which commit and beside which
    load it was measured.
    """

    machine: dict[str, Any]
    path: Path  # of the JSON; a page of text lies beside it
    figures: list[Figure] = field(default_factory=list)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)  # by section: at, commit, load
    _section: str = ""
    _begun: set[str] = field(default_factory=set)

    @classmethod
    def at(cls, path: Path, machine: dict[str, Any], *others: Path) -> "Report":
        """With what `path`, else one of `others`, holds of this machine and these packages, if anything."""
        for each in (path, *others):
            if each.is_file():
                found = cls.read(each)
                if found.machine == machine:
                    return cls(machine, path, found.figures, found.measured)
        return cls(machine, path)

    @classmethod
    def read(cls, path: Path) -> "Report":
        """As `write` left it, whatever machine it is of."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(found["machine"], path, [Figure(**figure) for figure in found["figures"]], found["measured"])

    def add(self, figure: Figure, circumstances: dict[str, Any]) -> None:
        """Note a figure and print its line, under a heading where a section begins."""
        if figure.section != self._section:
            self._section = figure.section
            if figure.section not in self._begun:
                self._drop(figure.section)
                self.measured[figure.section] = {"at": _now()} | circumstances
                self._begun.add(figure.section)
            print(f"\n{figure.section}", flush=True)
        if figure.ok is False and figure.unit in TIMES and circumstances["load"] > BUSY_LOAD:
            figure = replace(figure, ok=None)  # a time that others may have made too long
        self.figures.append(figure)
        print(line_of(figure), flush=True)

    def _drop(self, section: str) -> None:
        """Forget an older run of a section, with however many posts that was."""
        older = [name for name in self.measured if _topic(name) == _topic(section)]
        self.figures = [figure for figure in self.figures if figure.section not in older]
        for name in older:
            del self.measured[name]

    def write(self) -> None:
        """All of it as JSON, and beside that as a page of text; a kill leaves the earlier ones or these."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        figures = [asdict(figure) for figure in self.figures]
        found = {"machine": self.machine, "measured": self.measured, "figures": figures}
        _replace(self.path, json.dumps(found, indent=2) + "\n")
        _replace(self.path.with_suffix(".md"), self.page())

    def page(self) -> str:
        """What is kept with the project to be read."""
        return "\n".join(self._page()) + "\n"

    def _page(self) -> Iterator[str]:
        """Machine, dates and figures, to be kept with the project."""
        yield "# Measured by `make bench` and `make bench-long`"
        yield ""
        yield from (f"- {name}: {_shown(value)}" for name, value in self.machine.items())
        for section, how in self.measured.items():
            busy = f" (above {BUSY_LOAD}: other programs took part of the processor)" if how["load"] > BUSY_LOAD else ""
            yield from ("", f"## {section}", "")
            yield f"{how['at']}, commit {how['commit']}, {how['threads']} threads, load before it {how['load']}{busy}"
            yield from ("", "```text")
            yield from (line_of(figure).strip() for figure in self.figures if figure.section == section)
            yield "```"


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _topic(section: str) -> str:
    return section.partition(",")[0]


def _shown(value: Any) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def line_of(figure: Figure) -> str:
    """A line of the printed table."""
    value = f"{figure.value:>12,.0f}" if abs(figure.value) >= 100 else f"{figure.value:>12,.3f}"
    ratio = f"{figure.ratio:7.{1 if figure.ratio >= 10 else 2}f} x {figure.against}" if figure.ratio is not None else ""
    verdict = {True: "ok", False: "MISSED", None: "busy"}[figure.ok]
    target = f"{verdict} ({figure.target})" if figure.target else ""
    return f"  {figure.what:46} {value} {figure.unit:14} {ratio:28} {target}".rstrip()


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "vector instructions": ", ".join(_vectors()) or "unknown",
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def circumstances() -> dict[str, Any]:
    """What belongs to one run: the commit, threads, and how many processes wanted to run before it began."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {"commit": commit, "load": round(os.getloadavg()[0], 2), "threads": torch.get_num_threads()}


def _vectors() -> list[str]:
    """Those of the processor's instruction sets that scoring could use."""
    flags = next((line.split() for line in _cpuinfo() if line.startswith("flags")), [])
    return [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class Pace(NamedTuple):
    """Of one call: posts per second, and CPU seconds of all threads of this process per 1,000 posts."""

    posts_per_s: float
    cpu_s: float


def pace(work: Callable[[], int]) -> Pace:
    """Of one call, which returns how many posts it did."""
    began, cpu = time.perf_counter(), time.process_time()
    n = work()
    return Pace(n / (time.perf_counter() - began), (time.process_time() - cpu) / n * 1_000)


class Compared(NamedTuple):
    """Medians of two that took turns, and the medians of the pairs' ratios.

    `ratio` is that of posts per second, first over second; `cpu_ratio` that of CPU time, second over first: it holds
    beside other programs, too, where both use one thread.
    """

    first: Pace
    second: Pace
    ratio: float
    cpu_ratio: float


def compare(first: Callable[[], int], second: Callable[[], int], n_pairs: int = 5) -> Compared:
    """Measure pair by pair, the one that begins alternating, after one unmeasured call of each."""
    first(), second()
    pairs = []
    for number in range(n_pairs):
        if number % 2:
            second_pace = pace(second)
            pairs.append((pace(first), second_pace))
        else:
            pairs.append((pace(first), pace(second)))
    firsts, seconds = zip(*pairs, strict=True)
    return Compared(
        _middle(firsts),
        _middle(seconds),
        statistics.median(a.posts_per_s / b.posts_per_s for a, b in pairs),
        statistics.median(b.cpu_s / a.cpu_s for a, b in pairs),
    )


def _middle(paces: Sequence[Pace]) -> Pace:
    return Pace(*(statistics.median(values) for values in zip(*paces, strict=True)))


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
