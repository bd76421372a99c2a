"""The C library's memory: few pools, so that threads which hand batches on do not each keep a peak of their own."""

import ctypes
import logging

log = logging.getLogger(__name__)

MAX_ARENAS = 2
_M_ARENA_MAX = -8  # mallopt(3)


def limit_arenas() -> None:
    """Let glibc keep at most two arenas; call before threads start. Elsewhere nothing happens.

    By default it makes up to eight a core: the daemon then held 80 MiB more of freed memory while reading a large file.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MAX_ARENAS)
    except (AttributeError, OSError, TypeError):
        log.debug("the C library has no mallopt")


def give_back_freed() -> None:
    """Give memory that was freed back to the system, as after a start that needed much for a moment. Elsewhere nothing
    happens."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        log.debug("the C library has no malloc_trim")
