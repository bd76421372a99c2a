"""What the program stands on may be used with it: licences of every package it runs with, and the audit of its pins."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import Distribution, distribution
from pathlib import Path
from threading import Thread
from typing import Any

import audit
import pytest
from packaging.requirements import Requirement

# ---- licences ----------------------------------------------------------------------------------------------------

#: what an Apache-2.0 program may need: permissive licences, by their SPDX names and by PyPI's classifiers ...
PERMISSIVE = {
    "0BSD", "Apache Software License", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD License",
    "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT License", "MIT-CMU", "PSF-2.0",
    "Python Software Foundation License", "Unlicense", "Zlib",
}  # fmt: skip
#: ... and weak copyleft, of libraries that stay as they are
LIBRARIES = {
    "MPL-2.0", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)",
}  # fmt: skip
ALLOWED = PERMISSIVE | LIBRARIES
#: NVIDIA's own terms; they come with PyTorch's CUDA build and are never shipped by us
OWN_TERMS = re.compile(r"(nvidia|cuda)-.*")


def run_with(name: str, found: dict[str, Distribution], extras: tuple[str, ...] = ()) -> dict[str, Distribution]:
    """The package and everything that it needs here, by name; `found` is filled."""
    one = found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution(name))
    for requirement in map(Requirement, one.requires or ()):
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if wanted and (re.sub(r"[-_.]+", "-", requirement.name).lower() not in found or requirement.extras):
            run_with(requirement.name, found, tuple(requirement.extras))
    return found


def licences_of(one: Distribution) -> list[str]:
    """Its licences as it names them: an SPDX expression's parts, a short name, else classifiers."""
    metadata: Any = one.metadata
    expression = metadata.get("License-Expression") or ""
    named = metadata.get("License") or ""
    classified = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if line.startswith("License ::")
    ]
    short = expression or (named if len(named) < 60 and "\n" not in named and not classified else "")
    return re.split(r"\s+(?:AND|OR)\s+", short.strip("() ")) if short else classified


@pytest.mark.parametrize(
    ("licence", "is_allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("LGPL-3.0-only", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("Other/Proprietary License", False),
        ("", False),
    ],
)
def test_licences_are_told_apart(licence: str, *, is_allowed: bool) -> None:
    """The rule itself."""
    assert (licence in ALLOWED) == is_allowed


def test_every_package_of_the_program_may_be_used_with_it() -> None:
    """Licences of everything that `pip install sentiment-monitor` brings; one that names none is a failure too."""
    found = run_with("sentiment-monitor", {})
    assert {"torch", "kafka-python", "crc32c", "psycopg-binary"} <= set(found)  # of extras and extras of extras
    licences = {name: set(licences_of(one)) for name, one in found.items() if not OWN_TERMS.fullmatch(name)}
    refused = {name: named for name, named in licences.items() if not named or not named <= ALLOWED}
    assert refused == {}


# ---- audit -------------------------------------------------------------------------------------------------------


@contextmanager
def index_that_knows(known: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    """A server in the place of osv.dev; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            ids = [known.get((query["package"]["name"], query["version"]), []) for query in queries]
            answer = json.dumps({"results": [{"vulns": [{"id": one} for one in each]} if each else {} for each in ids]})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/querybatch"
        server.shutdown()


def test_an_advisory_fails_the_audit_until_somebody_explains_it(tmp_path: Path) -> None:
    """Of the pins alone: other versions' advisories are not ours."""
    pinned = tmp_path / "constraints.txt"
    pinned.write_text("# pins\nclick==8.2.0\ntorch==2.13.0+cpu  # the CPU build\nkafka-python[crc32c]==3.0.12\n")
    assert audit.pins(pinned) == [("click", "8.2.0"), ("torch", "2.13.0"), ("kafka-python", "3.0.12")]
    with index_that_knows({("torch", "2.13.0"): ["GHSA-1"], ("click", "7.0"): ["GHSA-2"]}) as index:
        assert audit.audit(pinned, index) == (1, "torch 2.13.0: GHSA-1\n3 packages, 1 advisories that nobody accepted")
        code, told = audit.audit(pinned, index, {"GHSA-1": "we never load what it is about"})
    assert (code, told) == (0, "3 packages, 0 advisories that nobody accepted")


def test_an_audit_without_its_index_says_so(tmp_path: Path) -> None:
    """Skipped with a message, not passed in silence."""
    (tmp_path / "constraints.txt").write_text("click==8.2.0\n")
    code, told = audit.audit(tmp_path / "constraints.txt", "http://127.0.0.1:9/v1/querybatch")
    assert code == 0
    assert told.startswith("audit SKIPPED: the advisory index http://127.0.0.1:9/v1/querybatch cannot be read")


def test_every_pin_is_audited() -> None:
    """No line of constraints.txt is left out."""
    lines = [line for line in audit.PINS.read_text(encoding="utf-8").splitlines() if "==" in line.split("#")[0]]
    assert len(audit.pins(audit.PINS)) == len(lines) > 50
