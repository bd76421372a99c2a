"""A large file, scaled down: `make soak ARGS="limits"` reads one of five gigabytes."""

from pathlib import Path

import pytest
from limits import read_large

pytestmark = pytest.mark.long


def test_a_large_file_is_read_in_flat_memory_and_goes_on_after_a_kill(tmp_path: Path, tiny_bundle: str) -> None:
    """100 MB: memory does not follow the size; the position is that of the rows stored, also after SIGKILL."""
    read_large(tmp_path, tiny_bundle, 100_000_000, 5.0, print)
