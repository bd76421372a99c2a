"""Installing the program: shipped configurations, the systemd unit, the wheel, the entry point as an image runs it."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from deploy_files import DEPLOY, ROOT, SECRETS, STOP_S, run
from services import require

from monitor import settings
from monitor.errors import ConfigError, TooManyRefused
from monitor.health import MAX_TURN_S

UNIT = DEPLOY / "systemd" / "sentiment-monitor.service"
DROP_INS = sorted((DEPLOY / "systemd").glob("*.conf"))


@pytest.mark.parametrize("folder", ["systemd", "container", "kubernetes"])
def test_every_shipped_configuration_starts(folder: str) -> None:
    """The config.yaml of each way to deploy loads, and fits the secrets that its README has people make."""
    config = settings.load(DEPLOY / folder / "config.yaml", {})
    settings.check_start(config, settings.Secrets(SECRETS))


def test_the_service_writes_to_its_state_folder_only() -> None:
    """Under systemd inbox and database lie in the unit's StateDirectory, since everything else is read-only."""
    config = settings.load(DEPLOY / "systemd" / "config.yaml", {})
    state = Path("/var/lib") / directives(UNIT)["StateDirectory"][-1]
    assert config.store_url() == f"sqlite:///{state}/sentiment.db"
    assert [config.path(source.path) for source in config.sources if source.kind == "drop_folder"] == [state / "inbox"]


def directives(*files: Path) -> dict[str, list[str]]:
    """Every setting of unit files with its values in order."""
    found: dict[str, list[str]] = {}
    for line in "\n".join(path.read_text(encoding="utf-8") for path in files).splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def installed_unit(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The unit in a folder of its own, with the drop-ins of the parameter, and a program that exists."""
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(
        re.sub(r"/opt/\S+/sentiment-monitor", "/bin/true", UNIT.read_text(encoding="utf-8")), encoding="utf-8"
    )
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()
    for drop_in in request.param:
        shutil.copy(drop_in, folder)
    return unit


@pytest.mark.parametrize("installed_unit", [(), *((each,) for each in DROP_INS), tuple(DROP_INS)], indirect=True)
def test_systemd_understands_the_unit(installed_unit: Path) -> None:
    """`systemd-analyze verify` finds no unknown key or wrong value in the unit, alone and with each drop-in."""
    verdict = run("systemd-analyze", "verify", "--man=no", "--generators=no", installed_unit)
    ours = [line for line in verdict.stderr.splitlines() if UNIT.name in line]
    assert ours == []
    assert verdict.returncode == 0


@pytest.mark.parametrize("installed_unit", [()], indirect=True)
def test_the_sandbox_is_tight(installed_unit: Path) -> None:
    """`systemd-analyze security` gives the unit an exposure of at most 2.0 of 10."""
    verdict = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", installed_unit)
    assert verdict.returncode == 0, verdict.stdout


def test_systemd_restarts_what_a_restart_can_mend() -> None:
    """Usage, bad input and configuration errors end for good; a stop gets longer than the daemon's own promise."""
    unit = directives(UNIT)
    for_good = {int(code) for code in unit["RestartPreventExitStatus"][0].split()}
    assert for_good == {2, TooManyRefused.exit_code, ConfigError.exit_code}
    assert unit["Type"] == ["notify"]
    assert int(unit["TimeoutStopSec"][0]) > STOP_S


def test_the_service_documents_the_watchdog_as_it_is() -> None:
    """Unit and README name the seconds after which a loop counts as stuck, and the README those of the unit."""
    readme = (DEPLOY / "systemd" / "README.md").read_text(encoding="utf-8")
    assert f"not turned for {MAX_TURN_S:.0f} s" in UNIT.read_text(encoding="utf-8")
    assert f"not turned for {MAX_TURN_S:.0f} s" in readme
    assert f"another {directives(UNIT)['WatchdogSec'][-1]} s (`WatchdogSec`)" in readme


#: the second is what Alembic makes new migrations from
NOT_INSTALLED = shutil.ignore_patterns("__pycache__", "script.py.mako")


@pytest.mark.long
def test_the_wheel_carries_what_the_program_needs(tmp_path: Path) -> None:
    """A wheel, as the images install it, has every file of both packages: code, migrations, recipes, bundles."""
    source = tmp_path / "source"
    for package in ("monitor", "models"):
        shutil.copytree(ROOT / package, source / package, ignore=NOT_INSTALLED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    built = run(sys.executable, "-m", "pip", "wheel", *flags, "--wheel-dir", tmp_path, source)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    listed = set(run(sys.executable, "-m", "zipfile", "-l", wheel).stdout.split())
    wanted = [path for package in ("monitor", "models") for path in (source / package).rglob("*") if path.is_file()]
    assert {path.relative_to(source).as_posix() for path in wanted} <= listed


READ_ONLY_ROOT = r"""
set -eu
base=$1; project=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/base /mnt/project /mnt/data
mount --bind "$base" /mnt/base
mount --bind "$project" /mnt/project
home=$(getent passwd 0 | cut -d: -f6)  # closed to everybody else, and some keep Python there
case "$base:$project" in *"$home"/*) mount -t tmpfs -o mode=755 tmpfs "$home" ;; esac
mkdir -p "$base" "$project" 2>/dev/null || true
mount --bind /mnt/base "$base"
mount --bind /mnt/project "$project"
for place in "$base" "$project" /; do mount -o remount,bind,ro "$place"; done
for place in "$project" /etc; do
  if touch "$place/written" 2>/dev/null; then echo "$place is writable"; exit 90; fi
done
mount -t tmpfs -o mode=700,uid=10001,gid=10001 tmpfs /mnt/data
cd /mnt/data
exec setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all sh -euc "$3"
"""

AS_IN_THE_IMAGE = """
test "$(id -u)" = 10001
{python} -m monitor init
mkdir inbox tmp
printf 'created_at,text,user_id\\n2026-11-20,I love it,ann\\n2026-11-20,I hate it,bob\\n' > inbox/posts.csv
{python} -m monitor run --once
{python} -c 'import sqlite3; print(*sqlite3.connect("data/sentiment.db").execute("SELECT total FROM daily_sentiment"))'
"""


def test_the_entry_point_runs_unprivileged_on_a_read_only_root(tmp_path: Path) -> None:
    """User 10001 without a capability, all read-only but its own folder: init and run --once work."""
    can_mount = shutil.which("unshare") is not None and run("unshare", "--mount", "true").returncode == 0
    require(can_mount and shutil.which("setpriv") is not None, "the right to make a mount namespace (root)")
    script = AS_IN_THE_IMAGE.format(python=shlex.quote(sys.executable))
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/mnt/data/tmp",
        "TMPDIR": "/mnt/data/tmp",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SENTIMENT_MONITOR__SOURCES__0__SETTLE_S": "0",
    }
    command = ["unshare", "--mount", "sh", "-c", READ_ONLY_ROOT, "sh", sys.base_prefix, str(ROOT), script]
    done = run(*command, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("(2,)\n")
