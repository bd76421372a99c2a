"""`make bench`: what the program does per second and per post on this machine, beside its peers, in ten minutes.

Comparisons are made pair by pair in one run; absolute figures belong to the machine and the minute. Prints tables,
writes bench/results.json and bench/results.md, and draws the charts beside them. `--long` adds what takes an hour. A
section that is measured again replaces its older figures; those of sections that are not, here or in the project, stay.
Each figure is on disk as soon as it is there, and a section that fails leaves the others be. `--keep` measures nothing:
it takes what bench/ has into tests/bench-results.json, its page and the charts of the README.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from bench_charts import draw
from bench_growth import memory, rates_by_size, turns_by_size
from bench_latency import latencies, start_times
from bench_measure import BUSY_LOAD, Figure, Report, circumstances, machine
from bench_path import Services, Sizes, end_to_end, services
from bench_peers import peers
from bench_posts import ROOT, find_texts, messages
from bench_stages import stages

from monitor.scorer import BundleScorer

SECTIONS = ("peers", "stages", "path", "latency", "start", "turns", "rates-postgresql", "rates-sqlite", "memory")
LONG_ONLY = ("rates-postgresql", "rates-sqlite", "memory")
KEPT = ROOT / "tests" / "bench-results.json"
PICTURES = ROOT / "deploy" / "pictures"


def sections(
    chosen: argparse.Namespace, found: list[str], parts: Services
) -> dict[str, Callable[[], Iterator[Figure]]]:
    """What measures each section, in the order in which they run."""
    n, device, scale = chosen.posts or (200_000 if chosen.long else 40_000), chosen.device, chosen.scale
    sizes, n_pairs = Sizes(n, n // 4), 1 if chosen.long else 2
    seconds = 60 if chosen.long else 20
    scorer = cache(lambda: BundleScorer.load("social-gru", device, ROOT))
    return {
        "peers": lambda: peers(found, scorer(), 9 if chosen.long else 3),
        "stages": lambda: stages(parts, found, messages(found, 20_480), scorer()),
        "path": lambda: end_to_end(parts, found, sizes, n_pairs, device),
        "latency": lambda: latencies(parts, messages(found, 500 * (seconds + 5)), seconds, device),
        "start": lambda: start_times(parts, device),
        "turns": lambda: turns_by_size(parts),
        "rates-postgresql": lambda: rates_by_size(parts, found, "PostgreSQL", device, scale),
        "rates-sqlite": lambda: rates_by_size(parts, found, "SQLite", device, scale),
        "memory": lambda: memory(parts, found, round(2_000_000 * scale), device),
    }


def arguments() -> argparse.Namespace:
    """The command line; `sections` defaults to all that the length allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--long", action="store_true", help="200,000 posts, full stores, two million posts for memory")
    parser.add_argument("--scale", type=float, default=1.0, help="of the posts of rates and memory: 0.02 is a try")
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
    """The figures and their page to tests/, the charts to the pictures of the README."""
    for suffix in (".json", ".md"):
        KEPT.with_suffix(suffix).write_bytes((folder / f"results{suffix}").read_bytes())
    for chart in folder.glob("*.png"):
        (PICTURES / f"bench-{chart.name}").write_bytes(chart.read_bytes())


def measure(chosen: argparse.Namespace, report: Report) -> list[str]:
    """Run the chosen sections; those that failed, after the others. What was found is on disk at once."""
    found, _ = find_texts()
    now, failed = circumstances(), []
    with services() as parts:
        for name, section in sections(chosen, found, parts).items():
            if name not in chosen.sections:
                continue
            try:
                for figure in section():
                    report.add(figure, now)
                    report.write()
            except Exception:  # noqa: BLE001 - the others may be what the hour was for
                traceback.print_exc()
                failed.append(name)
    return failed


def main() -> None:
    """Measure, print, write, draw."""
    chosen = arguments()
    if chosen.keep:
        keep(chosen.out)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped
    about = machine() | {"posts": find_texts()[1], "device": chosen.device}
    report = Report.at(chosen.out / "results.json", about, KEPT)
    for name, value in (about | circumstances()).items():
        print(f"{name}: {value}")
    if circumstances()["load"] > BUSY_LOAD:
        print("Something else is running: absolute figures are too low, and loops on all threads suffer most.")
    failed = []
    try:
        failed = measure(chosen, report)
    finally:
        report.write()
        charts = draw([vars(figure) for figure in report.figures], chosen.out)
        print("\nwritten:", *(str(each) for each in (report.path, *charts)))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
