"""What a bundle costs: posts per second of processor time, and parameters."""

import math
import time
from collections.abc import Sequence

from models.bundle import Bundle
from models.kinds import read_shape
from models.manifest import Manifest

SPEED_POSTS = 8_192


def posts_per_cpu_second(bundle: Bundle, texts: Sequence[str]) -> int:
    """Text to scores, every word new to the cache, over the CPU time of all threads, in which waiting does not count.

    Others on the machine still slow it down, by the caches and the clock that they share with it.
    """
    texts = texts[:SPEED_POSTS]
    bundle.encoder.forget()
    started = time.process_time()
    bundle.score(texts)
    return round(len(texts) / (time.process_time() - started))


def n_parameters(manifest: Manifest) -> int:
    """Numbers in the tensors of a bundle's network."""
    return sum(math.prod(size) for size in read_shape(manifest).sizes().values())
