"""Inference: token ids to logits, fast, equal to `networks.py` (held by a test) and the same however batched.

Posts are sorted by length, so that no step computes padding. On the CPU the input side of the GRU is one table look-up
per token (embedding x W_ih + b, folded once at load); the loop over steps is compiled (`fixed_point.py`) or, where no
compiler was, plain torch. On CUDA cuDNN's GRU runs in half precision.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models import fixed_point
from models.networks import GruClassifier, pool
from models.shapes import GruShape
from models.tokens import Int64Array, Tokens

FloatArray = npt.NDArray[np.float64]
Waiter = Callable[[], FloatArray]  # waits for logits (n, C) that are being computed

# as torch.nn.GRU names them; rows: reset, update, candidate
GATE_PARTS = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")


class Engine(Protocol):
    """Computes logits of posts. `start` may return before they are there; the waiter it returns blocks until then."""

    max_tokens: int  # about how many tokens a batch should have

    def start(self, tokens: Tokens) -> Waiter:
        """Begin with one batch. The logits (n, C) come in its order."""


def make_engine(network: GruClassifier, device: torch.device) -> Engine:
    """The fastest engine for a device; the network's weights are taken over."""
    if device.type == "cuda":
        return CudaEngine(network, device)
    return fixed_point.FixedPointEngine(network) if fixed_point.can_run(network.shape) else CpuEngine(network)


def batches_by_length(lengths: Int64Array, max_tokens: int) -> list[Int64Array]:
    """Indices of posts, longest first, cut into batches of at most `max_tokens` tokens, at least one post each."""
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    batches: list[Int64Array] = []
    begin = 0
    while begin < len(order):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + max_tokens, side="right")))
        batches.append(order[begin:end])
        begin = end
    return batches


class HalvingRunner:
    """Runs batches through an engine; out of memory, a batch is halved, and so is the budget of those after it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.n_halvings = 0
        self._budget_divisor = 1

    def start(self, tokens: Tokens, max_tokens: int | None = None) -> Waiter:
        """Begin with any number of posts. Raises torch.OutOfMemoryError only where a single post does not fit."""
        budget = max(1, (max_tokens or self.engine.max_tokens) // self._budget_divisor)
        batches = batches_by_length(tokens.lengths, budget)
        started = [part for rows in batches for part in self._start_rows(tokens, rows)]

        def wait() -> FloatArray:
            parts = [(rows, waiter()) for rows, waiter in started]
            logits = np.empty((len(tokens), parts[0][1].shape[1] if parts else 0))
            for rows, values in parts:
                logits[rows] = values
            return logits

        return wait

    def _start_rows(self, tokens: Tokens, rows: Int64Array) -> list[tuple[Int64Array, Waiter]]:
        try:
            return [(rows, self.engine.start(tokens.take(rows)))]
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        self._free_memory()
        half = len(rows) // 2
        return self._start_rows(tokens, rows[:half]) + self._start_rows(tokens, rows[half:])

    def _free_memory(self) -> None:
        self.n_halvings += 1
        self._budget_divisor *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class CpuEngine:
    """fp32 in plain torch, one step of each direction at a time over the posts that are not at their end.

    Batches run side by side on threads of their own, each operation on one: torch's way, all threads for each of the
    many small operations, is five times slower as soon as something else uses the processor.
    """

    max_tokens = 8_192

    def __init__(self, network: GruClassifier) -> None:
        self.shape: GruShape = network.shape
        n_threads = torch.get_num_threads()
        self._threads = ThreadPoolExecutor(n_threads, "score", initializer=torch.set_num_threads, initargs=(1,))
        weights = network.state_dict()
        self._directions = [
            Direction(weights["embedding.weight"], *(weights[f"gru.{name}_l0{side}"] for name in GATE_PARTS))
            for side in ("", "_reverse")
        ]
        self._output = network.output

    def start(self, tokens: Tokens) -> Waiter:
        return self._threads.submit(self._logits, tokens).result

    @torch.inference_mode()
    def _logits(self, tokens: Tokens) -> FloatArray:
        order = tokens.longest_first()
        posts = tokens.take(order)
        ids, lengths = torch.from_numpy(posts.ids), torch.from_numpy(posts.lengths)
        pooled = [
            direction.pool([ids[torch.from_numpy(step)] for step in steps], lengths)
            for direction, steps in zip(self._directions, posts.steps(), strict=True)
        ]
        logits = np.empty((len(posts), self.shape.n_classes))
        (mean, highest), (mean_back, highest_back) = pooled
        logits[order] = self._output(torch.cat([mean, mean_back, highest, highest_back], dim=1)).numpy()
        return logits


class Direction:
    """One direction of the GRU: the input side of all gates is one row of a table per token, folded at load."""

    def __init__(
        self, embedding: Tensor, input_weight: Tensor, input_bias: Tensor, weight: Tensor, bias: Tensor
    ) -> None:
        self.hidden = hidden = weight.shape[1]
        # tanh(x) = 2 sigmoid(2x) - 1: the candidate's rows doubled, since torch's own tanh is three times slower
        input_weight, input_bias, weight, bias = (
            torch.cat([part[: 2 * hidden], 2.0 * part[2 * hidden :]])
            for part in (input_weight, input_bias, weight, bias)
        )
        self._switch_table = torch.addmm(  # (V, 2H)
            (input_bias + bias)[: 2 * hidden], embedding, input_weight[: 2 * hidden].T
        )
        self._candidate_table = torch.addmm(input_bias[2 * hidden :], embedding, input_weight[2 * hidden :].T)  # (V, H)
        self._switch_weight = weight[: 2 * hidden].T.contiguous()  # (H, 2H)
        self._candidate_weight = weight[2 * hidden :].T.contiguous()  # (H, H)
        self._candidate_bias = bias[2 * hidden :]  # apart from the table: the reset gate acts on it

    def pool(self, steps: list[Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and maximum (B, H) of the states; `steps` has the token ids (n_t,) of the posts still active at t."""
        n = len(lengths)
        state, total = torch.zeros(n, self.hidden), torch.zeros(n, self.hidden)
        highest = torch.full((n, self.hidden), -2.0)
        for ids in steps:
            active = len(ids)
            self._step(ids, state[:active])
            total[:active] += state[:active]
            torch.maximum(highest[:active], state[:active], out=highest[:active])
        return total / lengths.unsqueeze(1), highest

    def _step(self, ids: Tensor, state: Tensor) -> None:
        """One GRU step of the posts with `ids` (n,) in `state` (n, H), in place."""
        switches = self._switch_table.index_select(0, ids).addmm_(state, self._switch_weight).sigmoid_()  # (n, 2H)
        reset, update = switches[:, : self.hidden], switches[:, self.hidden :]
        candidate = torch.addmm(self._candidate_bias, state, self._candidate_weight).mul_(reset)  # (n, H)
        candidate.add_(self._candidate_table.index_select(0, ids)).sigmoid_().mul_(2.0).sub_(1.0)
        torch.lerp(candidate, state, update, out=state)


class CudaEngine:
    """cuDNN's GRU in half precision on packed posts; pinned copies on a stream of its own, pooling in fp32."""

    max_tokens = 131_072

    def __init__(self, network: GruClassifier, device: torch.device) -> None:
        self.device = device
        self._network = network.to(device).eval()
        self._network.embedding.half()
        self._network.gru.half()
        self._network.gru.flatten_parameters()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types there

    def start(self, tokens: Tokens) -> Waiter:
        order = tokens.longest_first()
        logits, done = self._launch(tokens.take(order))

        def wait() -> FloatArray:
            done.synchronize()
            values = np.empty(tuple(logits.shape))
            values[order] = logits.numpy()
            return values

        return wait

    @torch.inference_mode()
    def _launch(self, posts: Tokens) -> tuple[Tensor, torch.cuda.Event]:
        """Queue copy, network and copy back, longest posts first; nothing waits for the GPU here."""
        lengths = torch.from_numpy(posts.lengths)
        by_step = posts.ids[np.concatenate(posts.steps()[0])].astype(np.int64)  # the order that packing wants
        with torch.cuda.stream(self._stream):
            tokens = torch.from_numpy(by_step).pin_memory().to(self.device, non_blocking=True)
            sizes = torch.bincount(lengths).flip(0).cumsum(0).flip(0)[1:]  # posts with length > t
            packed = torch.nn.utils.rnn.PackedSequence(self._network.embedding(tokens), sizes)
            states, _ = torch.nn.utils.rnn.pad_packed_sequence(self._network.gru(packed)[0], batch_first=True)
            logits = self._network.output(pool(states.float(), lengths))
            back = torch.empty(logits.shape, pin_memory=True)
            back.copy_(logits, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # nor there
            done.record(self._stream)
        return back, done
