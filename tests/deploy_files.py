"""deploy/ as tests read it: its files, its compose project, its unit."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
CONTAINER = DEPLOY / "container"

STOP_S = 25  #: the daemon's own promise (README, "Operations")

#: what each README has people make
SECRETS = {"HTTP_TOKEN": "t", "DATABASE_PASSWORD": "p", "SLACK_BOT_TOKEN": "x"}


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end, with the output as text."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=100, check=False, **options)


def documents(path: Path) -> list[dict[str, Any]]:
    """Every document of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    """A compose file with the defaults of its variables filled in, as `docker compose config` would."""
    filled = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (CONTAINER / name).read_text(encoding="utf-8"))
    loaded: dict[str, Any] = yaml.safe_load(filled)
    return loaded
