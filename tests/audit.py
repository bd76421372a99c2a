"""`make audit`: known vulnerabilities of the pinned packages, from the advisory index of https://osv.dev.

Exit 1 where there is one that ACCEPTED does not explain; 0 with a message where the index cannot be reached.
"""

import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

INDEX = "https://api.osv.dev/v1/querybatch"
PINS = Path(__file__).parent.parent / "constraints.txt"
TIMEOUT_S = 20
#: advisory -> why it does not reach us
ACCEPTED: Mapping[str, str] = {}


def pins(path: Path) -> list[tuple[str, str]]:
    """(name, version) of every `name==version` line, without local versions such as +cpu."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;+]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [(name, version) for name, version in found]


def advisories(pinned: Sequence[tuple[str, str]], index: str = INDEX) -> dict[str, list[str]]:
    """`name version` -> ids of what is known of it; packages without any are absent. Raises OSError, ValueError."""
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in pinned]
    request = urllib.request.Request(
        index, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        results = json.load(answer)["results"]
    found = zip(pinned, results, strict=True)
    return {" ".join(pin): [known["id"] for known in result["vulns"]] for pin, result in found if result.get("vulns")}


def audit(path: Path, index: str = INDEX, accepted: Mapping[str, str] = ACCEPTED) -> tuple[int, str]:
    """(exit code, what to print)."""
    pinned = pins(path)
    try:
        found = advisories(pinned, index)
    except (OSError, ValueError, KeyError) as error:
        return 0, f"audit SKIPPED: the advisory index {index} cannot be read: {error}"
    lines = [f"{pin}: {one}" for pin, ids in found.items() for one in ids if one not in accepted]
    told = f"{len(pinned)} packages, {len(lines)} advisories that nobody accepted"
    return int(bool(lines)), "\n".join([*lines, told])


if __name__ == "__main__":
    code, text = audit(PINS)
    print(text)  # noqa: T201  a report
    sys.exit(code)
