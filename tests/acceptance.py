"""`python tests/acceptance.py [CHECK...]`: what the monitor promises, tried at full size with real services.

Each check prints what it measured and PASS or FAIL; the exit code is 1 if one failed. `--list` names them. They need
about half an hour on two free cores, Java and the Kafka broker of fixtures_kafka.py, and leave nothing behind.
"""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import acceptance_files
import acceptance_services
from acceptance_ground import Check, Ground

CHECKS: dict[str, tuple[Check, int]] = {  # with the seconds that it may take
    "start": (acceptance_files.start, 120),
    "demo": (acceptance_files.demo, 120),
    "csv": (acceptance_files.csv_file, 300),
    "bad-input": (acceptance_files.bad_input, 300),
    "kafka-kills": (acceptance_services.kafka_kills, 600),
    "replicas": (acceptance_services.replicas, 600),
    "restored": (acceptance_services.restored, 400),
    "outages": (acceptance_services.outages, 900),
    "stops": (acceptance_services.stops, 400),
    "memory": (acceptance_files.memory, 1_800),
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


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
