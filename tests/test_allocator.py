"""Memory that was freed goes back to the system."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")

#: half of the blocks are freed, with one that stays between any two runs of them: the heap cannot shrink by itself
_SCRIPT = """
import psutil
from monitor.allocator import give_back_freed, limit_arenas
limit_arenas()
blocks = [bytes(100_000) for _ in range(1_000)]
for block in range(0, 1_000, 10):
    blocks[block : block + 9] = [None] * 9
before = psutil.Process().memory_info().rss
give_back_freed()
print((before - psutil.Process().memory_info().rss) // 2**20)
"""


def test_what_was_freed_is_given_back() -> None:
    """85 MiB lie between blocks that are still used; most of them go."""
    run = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 40, run.stderr
