"""Tests as a user for whom permissions count: root may read and write everything."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NOBODY = 65534


@contextmanager
def without_privileges() -> Iterator[Path]:
    """A folder of a user for whom permissions count, and this process as that user: root may read everything."""
    is_root = os.geteuid() == 0
    with TemporaryDirectory() as folder:
        if is_root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if is_root:
                os.seteuid(0)
