"""Coverage-guided fuzzing of what reads untrusted bytes: JSON and CSV decoders, tokenizer, Slack renderer, and all of
the way in: source, pipeline, saver, database.

    pip install atheris
    python tests/fuzz.py                         each target for ten minutes
    python tests/fuzz.py csv slack --seconds 60

The promises are those of fuzz_targets.py. Inputs that reached something new are kept in tests/fuzz_corpus/ and tried
again by every test run. Exit code 1, and the offending bytes as a file, when a promise was broken.
"""

import argparse
import gzip
import hashlib
import importlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

CORPUS = Path(__file__).parent / "fuzz_corpus"
NAMES = ("json", "csv", "tokenizer", "slack", "intake")
MAX_BYTES = 65_536  #: of one input
SECONDS = 600
MAX_KEPT_BYTES = 4_096  #: larger ones are made anew (`_seeds`): what is kept is tried by every test run
ONE_INPUT_S = 60  #: one that takes longer counts as a hang; at low priority beside other work seconds are long


def main() -> int:
    """Fuzz the named targets, one after the other."""
    arguments = _parse()
    logging.disable()  # what is refused by the thousand is said by the thousand
    if arguments.target:
        _fuzz_here(arguments.target, arguments.libfuzzer)
    n_broken = 0
    for name in arguments.names or NAMES:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            n_broken += _fuzz(name, arguments.seconds, Path(folder))
    return 1 if n_broken else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("--target", choices=NAMES, help=argparse.SUPPRESS)  # this process is the fuzzer of that one
    parser.add_argument("--libfuzzer", nargs=argparse.REMAINDER, default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    return arguments


def _fuzz(name: str, seconds: int, folder: Path) -> bool:
    """Fuzz in a process of its own, keep what is new, print one line; True when a promise was broken."""
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    found = folder / "found"
    found.mkdir()
    for number, content in enumerate(_seeds(name)):
        (found / f"seed-{number}").write_bytes(content)
    limits = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-timeout={ONE_INPUT_S}", "-rss_limit_mb=3000"]
    ended = _run(name, *limits, f"-artifact_prefix={folder}/", str(found), str(kept))
    n_runs = max((int(number) for number in re.findall(r"(?:Done |#)(\d+)", ended.stderr)), default=0)
    sizes = _keep(name, kept, [*kept.iterdir(), *found.iterdir()])
    state = "nothing broken" if ended.returncode == 0 else _report(name, folder, ended.stderr)
    sys.stdout.write(
        f"{name:<10} {n_runs:>12,} executions in {seconds} s, "
        f"corpus {len(sizes)} files, {sum(sizes):,} bytes: {state}\n"
    )
    sys.stdout.flush()
    return ended.returncode != 0


def _seeds(name: str) -> list[bytes]:
    """Good inputs to begin with, small ones and ones of nearly MAX_BYTES, which a fuzzer alone takes days to reach."""
    fields = b'"created_at": "2026-11-20", "text": "%s", "id": "%d", "brand": "acme"'
    messages = [b"{" + fields % (b"words " * 5, number) + b"}" for number in range(400)]
    rows = [b"2026-11-20,%s,%d,ann,acme,en" % (b'a "" b ' * 4, number) for number in range(900)]
    table = b"created_at,text,id,user_id,brand,lang\n"
    lines = [b"acme", *(b"so bad <b> & *%d*" % number for number in range(2_000))]
    seeds = {
        "json": [messages[0], b"{" + fields % (b"x" * 60_000, 1) + b"}"],
        "csv": [table + rows[0], table + b"\n".join(rows), table + b'2026-11-20,"' + (b"x" * 600 + b"\n") * 100],
        "tokenizer": [b"not good", b"\x1e".join(lines)],
        "slack": [b"\n".join(lines[:3]), b"\n".join(lines)],
    }
    seeds["intake"] = [*seeds["csv"], *(b"g" + seed for seed in seeds["csv"]), b"z" + gzip.compress(seeds["csv"][1])]
    seeds["intake"] += [b"k" + b"\x1e".join(messages[:n]) for n in (3, 400)] + [b"k" + seeds["json"][1]]
    return seeds[name]


def _keep(name: str, kept: Path, paths: list[Path]) -> list[int]:
    """Keep those inputs, the smallest first, that go a way through our code that none before went; returns their sizes.

    libFuzzer's own -merge starts a process per step and counts within the interpreter's loops too: it keeps thousands.
    """
    check = importlib.import_module("fuzz_targets").TARGETS[name]
    seen: set[tuple[str, int, int]] = set()
    found = {content for path in paths if len(content := path.read_bytes()) <= MAX_KEPT_BYTES}
    contents = sorted(found, key=lambda content: (len(content), content))
    for path in list(kept.iterdir()):
        if "-" not in path.name:  # those with a name of their own once broke something
            path.unlink()
    sizes = []
    for content in contents:
        steps = _steps_of(check, content)
        if not steps <= seen:
            seen |= steps
            sizes.append(len(content))
            (kept / hashlib.sha256(content).hexdigest()[:12]).write_bytes(content)
    return sizes


def _steps_of(check: Callable[[bytes], None], content: bytes) -> set[tuple[str, int, int]]:
    """(file, line, next line) of every step through our own modules that the input causes."""
    steps: set[tuple[str, int, int]] = set()

    def trace_call(frame: FrameType, event: str, arg: object) -> Any:
        name = frame.f_code.co_filename
        if "/monitor/" not in name and "/models/" not in name:
            return None
        before = frame.f_lineno

        def trace_line(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal before
            steps.add((name, before, frame.f_lineno))
            before = frame.f_lineno
            return trace_line

        return trace_line

    sys.settrace(trace_call)
    try:
        check(content)
    except Exception:  # noqa: BLE001 - the one that broke something is reported elsewhere and still worth keeping
        pass
    finally:
        sys.settrace(None)
    return steps


def _run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, __file__, "--target", name, "--libfuzzer", *options]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _report(name: str, folder: Path, log: str) -> str:
    sys.stdout.write(log[-4000:] + "\n")
    for path in [*folder.glob("crash-*"), *folder.glob("timeout-*"), *folder.glob("oom-*")]:
        shutil.copy(path, Path.cwd() / f"{name}-{path.name}")
        return f"BROKEN by {name}-{path.name}"
    return "the fuzzer itself ended with an error"


def _fuzz_here(name: str, options: list[str]) -> None:
    """Become libFuzzer for one target; does not return."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["monitor", "models", "fuzz_targets", "fuzz_intake"]):
        targets = importlib.import_module("fuzz_targets")
    atheris.Setup([sys.argv[0], *options], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
