"""Ports for servers of tests that must get the same one again after a restart."""

import itertools
import os
import random
import socket

_FIRST = 12_000  #: below the ports that systems hand out to outgoing connections: from 32,768 (Linux), 49,152 (others)
_PER_WORKER = 1_000
_N_SLICES = 20

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _N_SLICES
_start = random.SystemRandom().randrange(_PER_WORKER)
_numbers = itertools.count()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, that no other worker gets and that this one gets once.

    Asking the system for one (bind to port 0) gives a port that any outgoing connection, or another worker's server,
    may have by the time a server that was stopped for a moment wants it again.
    """
    for number in itertools.islice(_numbers, _PER_WORKER):
        port = _FIRST + _worker * _PER_WORKER + (_start + number) % _PER_WORKER
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError("no free port")
