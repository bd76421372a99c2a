"""The parts of README.md that can be compared with the program, and what the program says they should be.

`python tests/readme_parts.py` writes the tour's answers, the metrics, the model's figures and those of the benchmark
into README.md anew; with `--figures` all but the tour's answers, without running it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon_process import environment
from prometheus_client.metrics import MetricWrapperBase

from models.model_card import SET_NAMES
from monitor.metrics import Metrics

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
HOME = "/home/ann"  #: stands in the README for the home folder that the tour ran in
RESULTS = ROOT / "tests" / "bench-results.md"
HELD = {"ok": "yes", "MISSED": "no", "busy": "not judged"}
_MEASURED = re.compile(
    r"(?P<what>\S.*?) {2,}(?P<value>[\d.,-]+) (?P<unit>\S+)"
    r"(?: +(?P<ratio>[\d.]+) x (?P<against>.+?))?(?: {2,}(?P<verdict>ok|MISSED|busy) \((?P<target>.+)\))?"
)
_CIRCUMSTANCES = re.compile(r"\d{4}-.* UTC, commit .*, load before it (?P<load>[\d.]+)(?P<busy> \(above)?")
FIGURES = ("posts", "accuracy", "macro_recall", "macro_f1")
_FENCED = re.compile(r"^```(\w+)(?: ([\w-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "=== end of a block of the tour ==="
_TOUR_DEADLINE_S = 200  # a dozen commands, beside four other tests on two cores


@dataclass(frozen=True)
class Block:
    """One fenced block: ```language name."""

    language: str
    name: str
    body: str


@dataclass(frozen=True)
class Step:
    """Commands of the tour, and what they are said to print."""

    commands: str
    printed: str


def blocks(language: str, name: str | None = None) -> list[Block]:
    """The fenced blocks of a language (with that name), in order."""
    found = [Block(one[1], one[2] or "", one[3]) for one in _FENCED.finditer(README.read_text(encoding="utf-8"))]
    return [block for block in found if block.language == language and name in {None, block.name}]


def tour() -> list[Step]:
    """The steps of the five-minute tour."""
    commands, printed = blocks("sh", "tour"), blocks("text", "tour")
    return [Step(one.body, other.body) for one, other in zip(commands, printed, strict=True)]


def run_tour(home: Path, more: Mapping[str, str]) -> list[str]:
    """Run the tour in one shell whose home is the empty folder `home`; what each step printed, errors included.

    `more` goes into its environment. AssertionError with everything printed where a command fails.
    """
    script = ["set -e", *(f"{step.commands}echo '{_MARK}'" for step in tour())]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    caches = {"XDG_CACHE_HOME": str(Path("~/.cache").expanduser())}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home,
        env=environment(HOME=str(home), PATH=path, **caches, **more),
        timeout=_TOUR_DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.replace(str(home), HOME).split(f"{_MARK}\n")[:-1]


def table(header: str, page: Path = README) -> list[list[str]]:
    """The cells of every row of the table whose header row begins with `header`."""
    return next(tables(header, page))


def tables(header: str, page: Path = README) -> Iterator[list[list[str]]]:
    """Of every table whose header row begins with `header`, the cells of its rows."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(rf"^{re.escape(header)}.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        yield [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def names_in(cell: str) -> list[str]:
    """What stands in backticks, in order."""
    return re.findall(r"`([^`]+)`", cell)


def metric_rows() -> list[list[str]]:
    """Metric, labels, meaning, as the program declares them."""
    metrics = [metric for metric in vars(Metrics()).values() if isinstance(metric, MetricWrapperBase)]
    return [[f"`{_shown_name(metric)}`", _labels(metric), metric._documentation] for metric in metrics]


def figure_rows() -> list[list[str]]:
    """Set, system, posts, accuracy, macro recall and macro F1, as the shipped bundle's report has them."""
    report = json.loads((ROOT / "models/bundles/social-gru/report.json").read_text(encoding="utf-8"))
    return [
        [shown, report["bundle"] if system == "network" else system, *map(_figure, _chosen(systems[system]))]
        for name, shown in SET_NAMES.items()
        if (systems := report["sets"].get(name))
        for system in sorted(systems, key=lambda system: (system != "network", system))
    ]


def speed_rows() -> list[list[str]]:
    """Every measured figure with a bar, and ratios of CPU time: where and what, value, ratio, bar, whether it held.

    The last also says at which load, where something else ran.
    """
    rows, section, load = [], "", ""
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        if how := _CIRCUMSTANCES.match(line):
            load = f"load {how['load']}" if how["busy"] else ""
        found = _MEASURED.fullmatch(line)
        if found and (found["target"] or (found["ratio"] and "CPU" in section + found["what"])):
            ratio = f"{found['ratio']} times {found['against']}" if found["ratio"] else ""
            held = ", ".join(each for each in (HELD.get(found["verdict"], ""), load) if each)
            figure = f"{found['value']} {found['unit']}"
            rows.append([f"{section}: {found['what']}", figure, ratio, found["target"] or "", held])
    return rows


def rewrite(printed: list[str]) -> None:
    """Put the tour's answers, the metrics and the figures into README.md."""
    text = _text()
    for step, now in zip(tour(), printed, strict=True):
        text = text.replace(f"{step.commands}```\n\n```text tour\n{step.printed}```", _both(step, now))
    rewritten = (("| metric |", metric_rows()), ("| set | system |", figure_rows()), ("| measured |", speed_rows()))
    for header, rows in rewritten:
        lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        pattern = rf"(^{re.escape(header)}.*\n\|[-| ]+\|\n)(?:.+\n)+"
        text = re.sub(pattern, lambda found, lines=lines: found[1] + lines, text, count=1, flags=re.MULTILINE)  # type: ignore[misc]
    README.write_text(text, encoding="utf-8")


def _both(step: Step, printed: str) -> str:
    return f"{step.commands}```\n\n```text tour\n{printed}```"


def _text() -> str:
    return README.read_text(encoding="utf-8")


def _shown_name(metric: MetricWrapperBase) -> str:
    total = "_total" if metric._type == "counter" else ""
    return f"{metric._name.removeprefix('sentiment_monitor_')}{total}"


def _labels(metric: MetricWrapperBase) -> str:
    return ", ".join(f"`{label}`" for label in metric._labelnames)


def _chosen(figures: Mapping[str, float]) -> list[float]:
    return [figures[name] for name in FIGURES]


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def main() -> None:
    """Run the tour against a server in Slack's place and rewrite."""
    from fixtures_slack import running_slack

    if "--figures" in sys.argv:
        rewrite([step.printed for step in tour()])
        return
    with running_slack() as slack, tempfile.TemporaryDirectory() as home:
        slack.token = "xoxb-..."
        rewrite(run_tour(Path(home), {"SENTIMENT_MONITOR__ALERTS__SLACK__BASE_URL": slack.url}))


if __name__ == "__main__":
    main()
