"""The engine for the CPU where its compiled half is there: recurrent products in 16-bit integers, all else in fp32.

Scores are within 1e-4 of the fp32 network's (a test holds 1e-3 on real posts) and exactly the same however posts are
batched. `engine.CpuEngine` gives the same answers in plain torch, at half the speed.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.networks import GruClassifier
from models.shapes import GruShape
from models.tokens import Tokens

try:
    from models import _fixed_point
except ImportError:  # no compiler was there when the package was installed
    IS_AVAILABLE = False
else:
    IS_AVAILABLE = _fixed_point.is_available()

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Int16Array = npt.NDArray[np.int16]
Number = TypeVar("Number", bound=np.generic)
Waiter = Callable[[], FloatArray]

UNITS = 16  # hidden units of a panel, as in the C source
STATE_SCALE = 8192.0  # a state of 1 as an integer: 13 bits, which leaves about as many to the weights
MAX_INT16, MAX_INT32 = 2**15 - 1, 2**31 - 1
LINE_BYTES = 64
# Reset and update are 1 / (1 + exp(-x)), the candidate is (1 - exp(-2x)) / (1 + exp(-2x)): scales for exp2.
GATE_EXPONENTS = np.array([-1.0, -1.0, -2.0]) / math.log(2.0)


def can_run(shape: GruShape) -> bool:
    """Whether this processor and installation can compute a network of that shape here."""
    return IS_AVAILABLE and shape.hidden % UNITS == 0


def _by_panel(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """(..., 3H) with gates in torch's order to (..., H / 16, 3, 16)."""
    shape = values.shape[:-1]
    return values.reshape(*shape, 3, -1, UNITS).swapaxes(-3, -2)


def _weight_scales(weight: Float32Array) -> Float32Array:
    """What one of each row's integers stands for, (3H,): no integer over 16 bits, no sum of products over 32."""
    rounding = weight.shape[1]  # each weight may be rounded up by a half; twice that to be safe
    by_sum = np.abs(weight).sum(axis=1) / (MAX_INT32 / STATE_SCALE - rounding)
    scales: Float32Array = np.maximum(np.abs(weight).max(axis=1) / MAX_INT16, by_sum).astype(np.float32)
    return np.maximum(scales, np.float32(1e-30))


def _integers(values: Float32Array, scales: Float32Array) -> Int16Array:
    rounded: Int16Array = np.rint(values / scales).clip(-MAX_INT16, MAX_INT16).astype(np.int16)
    return rounded


def _side_by_side(parts: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    """Both directions' part in one array that begins on a cache line."""
    both = np.stack(parts)
    room = np.empty(both.nbytes + LINE_BYTES, np.uint8)
    offset = -room.ctypes.data % LINE_BYTES
    aligned: npt.NDArray[np.generic] = room[offset : offset + both.nbytes].view(both.dtype).reshape(both.shape)
    aligned[...] = both
    return aligned


class FixedPointEngine:
    """engine.Engine in C: one call computes a batch, on a thread of its own, without the interpreter's lock."""

    max_tokens = 4_096

    def __init__(self, network: GruClassifier) -> None:
        self.shape = network.shape
        self._threads = ThreadPoolExecutor(
            torch.get_num_threads(), "score", initializer=torch.set_num_threads, initargs=(1,)
        )
        weights = network.state_dict()
        sides = [self._pack(weights, side) for side in ("", "_reverse")]
        table, weight, table_scale, weight_scale, bias = (
            _side_by_side(list(parts)) for parts in zip(*sides, strict=True)
        )
        self._parts = (table, weight, table_scale, weight_scale, bias)
        self._output = network.output

    @torch.inference_mode()
    def _pack(self, weights: dict[str, Tensor], side: str) -> tuple[npt.NDArray[np.generic], ...]:
        """One direction's table, weight, their scales and bias, laid out as the C source says."""
        hidden = self.shape.hidden
        input_weight, input_bias, inner, inner_bias = (
            weights[f"gru.{name}_l0{side}"] for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        )
        added = inner_bias.clone()
        added[2 * hidden :] = 0.0  # the candidate's: the reset gate acts on it
        inputs = torch.addmm(input_bias + added, weights["embedding.weight"], input_weight.T).numpy()  # (V, 3H)
        exponents = np.repeat(GATE_EXPONENTS, hidden).astype(np.float32)
        input_scales = np.maximum(np.abs(inputs).max(axis=0) / MAX_INT16, np.float32(1e-30))
        scales = _weight_scales(inner.numpy())
        pairs = _integers(inner.numpy(), scales[:, None]).reshape(3, hidden // UNITS, UNITS, hidden // 2, 2)
        return (
            _by_panel(_integers(inputs, input_scales)),
            pairs.transpose(1, 3, 0, 2, 4),
            _by_panel((input_scales * exponents).astype(np.float32)),
            _by_panel((scales / STATE_SCALE * exponents).astype(np.float32)),
            (inner_bias[2 * hidden :].numpy() * exponents[2 * hidden :]).astype(np.float32),
        )

    def start(self, tokens: Tokens) -> Waiter:
        return self._threads.submit(self._logits, tokens).result

    @torch.inference_mode()
    def _logits(self, tokens: Tokens) -> FloatArray:
        order = tokens.longest_first()
        posts = tokens.take(order)
        pooled = np.empty((len(posts), 4 * self.shape.hidden), np.float32)
        _fixed_point.pool(self.shape.hidden, STATE_SCALE, self._parts, posts.ids, posts.starts, posts.lengths, pooled)
        logits = np.empty((len(posts), self.shape.n_classes))
        logits[order] = self._output(torch.from_numpy(pooled)).numpy()
        return logits
