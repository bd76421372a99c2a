"""A small disk of a test's own: to be filled, given room, and taken for writing. Mounting needs root or the like."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from services import require


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 1 MiB, where this user may mount one; in CI it must."""
    place = tmp_path / "disk"
    place.mkdir()
    require(shutil.which("mount") is not None, "the command mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    tried = subprocess.run(command, capture_output=True, check=False)
    require(tried.returncode == 0, "the right to mount a file system (root has it)")
    yield place
    _mount("umount", "--lazy", str(place))


def resize(place: Path, size: str) -> None:
    """Give that disk another size, like 4m, while it is used."""
    _mount("mount", "-o", f"remount,size={size}", str(place))


def fill(place: Path) -> Path:
    """Leave no room there; removing the returned file makes room again."""
    path = place / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


@contextmanager
def seen_at(place: Path, at: Path, *, read_only: bool = False) -> Iterator[None]:
    """Meanwhile the folder `place` is to be found at `at` too, on top of what is there; `read_only`: not to be written.

    Files that are open stay as they were opened.
    """
    at.mkdir(exist_ok=True)
    _mount("mount", "--bind", str(place), str(at))
    try:
        if read_only:
            _mount("mount", "-o", "remount,bind,ro", str(at))
        yield
    finally:
        _mount("umount", "--lazy", str(at))


def _mount(*command: str) -> None:
    subprocess.run(command, check=True)
