# The compiled half of fixed_point.py; not there where no compiler was when the package was installed.
from typing import Any

import numpy.typing as npt

# Whether this processor can run `pool`.
def is_available() -> bool: ...

# Fill `pooled` (n, 4H) fp32 for n posts, longest first, each `ids[starts[i]:][:lengths[i]]` (int32; int64, int64).
# `parts`: table, weight, their scales and bias, each for both directions, laid out as the C source says. Raises
# ValueError for sizes, lengths or ids that do not fit together. The interpreter is free meanwhile.
def pool(
    hidden: int,
    state_scale: float,
    parts: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
    ids: npt.NDArray[Any],
    starts: npt.NDArray[Any],
    lengths: npt.NDArray[Any],
    pooled: npt.NDArray[Any],
    /,
) -> None: ...
