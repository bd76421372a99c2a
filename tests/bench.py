"""`make bench`: what the program does per second and per post on this machine, beside its peers, in ten minutes.

Comparisons are made pair by pair in one run; absolute figures belong to the machine and the minute. Prints tables,
writes bench/results.json and bench/results.md, and draws the charts beside them. `--long` adds what takes an hour. A
section that is measured again replaces its older figures. `--keep` measures nothing: it takes what bench/ has into
tests/bench-results.md and the README.
"""

import argparse
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from bench_charts import draw
from bench_growth import memory, rates_by_size, turns_by_size
from bench_latency import latencies, start_times
from bench_measure import BUSY_LOAD, Figure, Report, circumstances, machine
from bench_path import Sizes, end_to_end, services
from bench_peers import peers
from bench_posts import ROOT, find_texts, messages
from bench_stages import stages

from monitor.scorer import BundleScorer

SECTIONS = ("peers", "stages", "path", "latency", "start", "turns", "rates", "memory")
LONG_ONLY = ("rates", "memory")
KEPT = ROOT / "tests" / "bench-results.md"
PICTURES = ROOT / "deploy" / "pictures"


def measured(chosen: argparse.Namespace, found: list[str]) -> Iterator[Figure]:
    """Every chosen section, one after the other."""
    n, device = chosen.posts or (200_000 if chosen.long else 40_000), chosen.device
    with services() as parts:
        if not {"peers", "stages"}.isdisjoint(chosen.sections):
            scorer = BundleScorer.load("social-gru", device, ROOT)
            yield from peers(found, scorer, 9 if chosen.long else 3) if "peers" in chosen.sections else ()
            yield from stages(parts, found, messages(found, 20_480), scorer) if "stages" in chosen.sections else ()
        if "path" in chosen.sections:
            sizes = Sizes(n, n if chosen.long else n // 4)
            yield from end_to_end(parts, found, sizes, 1 if chosen.long else 2, device)
        if "latency" in chosen.sections:
            seconds = 60 if chosen.long else 20
            yield from latencies(parts, messages(found, 500 * (seconds + 5)), seconds, device)
        yield from start_times(parts, device) if "start" in chosen.sections else ()
        yield from turns_by_size(parts) if "turns" in chosen.sections else ()
        yield from rates_by_size(parts, found, device) if "rates" in chosen.sections else ()
        yield from memory(parts, found, 2_000_000, device) if "memory" in chosen.sections else ()


def arguments() -> argparse.Namespace:
    """The command line; `sections` defaults to all that the length allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--long", action="store_true", help="200,000 posts, full stores, two million posts for memory")
    parser.add_argument("--posts", type=int, help="posts of the end-to-end comparison")
    parser.add_argument("--device", default=os.environ.get("DEVICE") or "auto", help="auto, cpu, cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "bench", help="where JSON and charts go")
    parser.add_argument("--keep", action="store_true", help="only take what is there into the project")
    chosen = parser.parse_args()
    unknown = set(chosen.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}")
    chosen.sections = chosen.sections or [each for each in SECTIONS if chosen.long or each not in LONG_ONLY]
    return chosen


def keep(folder: Path) -> None:
    """The page to tests/, the charts to the pictures of the README."""
    KEPT.write_bytes((folder / "results.md").read_bytes())
    for chart in folder.glob("*.png"):
        (PICTURES / f"bench-{chart.name}").write_bytes(chart.read_bytes())


def main() -> None:
    """Measure, print, write, draw."""
    chosen = arguments()
    if chosen.keep:
        keep(chosen.out)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped and figures written
    found, origin = find_texts()
    report = Report.at(chosen.out / "results.json", machine() | {"posts": origin, "device": chosen.device})
    now = circumstances()
    for name, value in (report.machine | now).items():
        print(f"{name}: {value}")
    if now["load"] > BUSY_LOAD:
        print("Something else is running: absolute figures are too low, and loops on all threads suffer most.")
    try:
        for figure in measured(chosen, found):
            report.add(figure, now)
    finally:
        report.write()
        charts = draw([vars(figure) for figure in report.figures], chosen.out)
        print("\nwritten:", *(str(each) for each in (report.path, *charts)))


if __name__ == "__main__":
    main()
