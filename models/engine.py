"""Inference: token ids to logits, fast, equal to `networks.py` (held by a test) and the same however batched.

Posts are sorted by length, so that no step computes padding. On the CPU the input side of the GRU is one table look-up
per token (embedding x W_ih + b, folded once at load) and both directions step side by side. On CUDA cuDNN's GRU runs in
half precision.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.networks import GruClassifier, GruShape, pool

FloatArray = npt.NDArray[np.float64]
Ids = Sequence[Sequence[int]]
Waiter = Callable[[], FloatArray]  # waits for logits (n, C) that are being computed

GATE_PARTS = (
    "weight_ih",
    "bias_ih",
    "weight_hh",
    "bias_hh",
)  # as torch.nn.GRU names them; rows: reset, update, candidate


class Engine(Protocol):
    """Computes logits of posts. `start` may return before they are there; the waiter it returns blocks until then."""

    max_tokens: int  # about how many tokens a batch should have

    def start(self, ids: Ids) -> Waiter:
        """Begin with one batch: each post at least one id. The logits (n, C) come in the order of `ids`."""


def make_engine(network: GruClassifier, device: torch.device) -> Engine:
    """The engine for a device type; the network's weights are taken over."""
    return CudaEngine(network, device) if device.type == "cuda" else CpuEngine(network)


def batches_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of posts, longest first, cut into batches of about `max_tokens` tokens, at least one post each."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    room = 0
    for i in order:
        if room < lengths[i]:
            batches.append([])
            room = max_tokens
        batches[-1].append(i)
        room -= lengths[i]
    return batches


class HalvingRunner:
    """Runs batches through an engine; out of memory, a batch is halved, and so is the budget of those after it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.n_halvings = 0
        self._budget_divisor = 1

    def start(self, ids: Ids, max_tokens: int | None = None) -> Waiter:
        """Begin with any number of posts. Raises torch.OutOfMemoryError only where a single post does not fit."""
        lengths = [len(post) for post in ids]
        budget = max(1, (max_tokens or self.engine.max_tokens) // self._budget_divisor)
        started = [part for rows in batches_by_length(lengths, budget) for part in self._start_rows(ids, rows)]

        def wait() -> FloatArray:
            parts = [(rows, waiter()) for rows, waiter in started]
            logits = np.empty((len(ids), parts[0][1].shape[1] if parts else 0))
            for rows, values in parts:
                logits[rows] = values
            return logits

        return wait

    def _start_rows(self, ids: Ids, rows: list[int]) -> list[tuple[list[int], Waiter]]:
        try:
            return [(rows, self.engine.start([ids[i] for i in rows]))]
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        self._free_memory()
        half = len(rows) // 2
        return self._start_rows(ids, rows[:half]) + self._start_rows(ids, rows[half:])

    def _free_memory(self) -> None:
        self.n_halvings += 1
        self._budget_divisor *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _steps(ids: Ids, order: Sequence[int]) -> tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int64]]]:
    """For every step t the ids (n_t,) that each direction reads; `order` has the longest post first."""
    lengths = np.array([len(ids[i]) for i in order])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    flat = np.concatenate([np.asarray(ids[i], np.int64) for i in order])
    ends = starts + lengths - 1
    # n_t, the posts with length > t
    n_active = [int(np.searchsorted(-lengths, -t, side="left")) for t in range(int(lengths[0]))]
    return [flat[starts[:n] + t] for t, n in enumerate(n_active)], [flat[ends[:n] - t] for t, n in enumerate(n_active)]


class CpuEngine:
    """fp32 in plain torch, one step of both directions at a time over the posts that are not at their end.

    Batches run side by side on threads of their own, each operation on one: torch's way, all threads for each of the
    many small operations, is five times slower as soon as something else uses the processor.
    """

    max_tokens = 8_192

    def __init__(self, network: GruClassifier) -> None:
        self.shape: GruShape = network.shape
        n_threads = torch.get_num_threads()
        self._threads = ThreadPoolExecutor(n_threads, "score", initializer=torch.set_num_threads, initargs=(1,))
        weights = network.state_dict()
        embedding = weights["embedding.weight"]  # (V, E)
        gates = [[self._double(weights[f"gru.{name}_l0{side}"]) for name in GATE_PARTS] for side in ("", "_reverse")]
        # For each direction a table (V, 3H) of what every token adds to the gates.
        self._tables = [self._fold(embedding, weight, bias, inner) for weight, bias, _, inner in gates]
        self._recurrent = torch.stack([weight.T for _, _, weight, _ in gates]).contiguous()  # (2, H, 3H)
        self._candidate_bias = torch.stack([inner[2 * self.shape.hidden :][None] for *_, inner in gates])  # (2, 1, H)
        self._output = network.output

    def _double(self, part: Tensor) -> Tensor:
        """Twice the candidate's rows: tanh(x) = 2 sigmoid(2x) - 1; torch's own tanh wakes all threads for one post."""
        doubled = part.clone()
        doubled[2 * self.shape.hidden :] *= 2.0
        return doubled

    def _fold(self, embedding: Tensor, weight: Tensor, bias: Tensor, recurrent_bias: Tensor) -> Tensor:
        """Input side of all gates for every token, without the candidate's recurrent bias: reset acts on it."""
        whole = recurrent_bias.clone()
        whole[2 * self.shape.hidden :] = 0.0
        return torch.addmm(bias + whole, embedding, weight.T)

    def start(self, ids: Ids) -> Waiter:
        return self._threads.submit(self._logits, ids).result

    @torch.inference_mode()
    def _logits(self, ids: Ids) -> FloatArray:
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        pooled = self._pooled(*_steps(ids, order), torch.tensor([len(ids[i]) for i in order]))
        logits = np.empty((len(ids), self.shape.n_classes))
        logits[order] = self._output(pooled).numpy()
        return logits

    def _pooled(
        self, forward: Sequence[npt.NDArray[np.int64]], backward: Sequence[npt.NDArray[np.int64]], lengths: Tensor
    ) -> Tensor:
        """Mean and maximum of the states over each post's steps, (B, 4H), in the reference network's order."""
        n, hidden = len(lengths), self.shape.hidden
        state = torch.zeros(2, n, hidden)
        total = torch.zeros(2, n, hidden)
        highest = torch.full((2, n, hidden), float("-inf"))
        for ids_forward, ids_backward in zip(forward, backward, strict=True):
            active = len(ids_forward)
            ids = (torch.from_numpy(ids_forward), torch.from_numpy(ids_backward))
            gates = torch.stack([table[rows] for table, rows in zip(self._tables, ids, strict=True)])  # (2, n_t, 3H)
            state = self._step(gates, state[:, :active])
            total[:, :active] += state
            torch.maximum(highest[:, :active], state, out=highest[:, :active])
        mean = total / lengths.unsqueeze(1)
        return torch.cat([mean[0], mean[1], highest[0], highest[1]], dim=1)

    def _step(self, gates: Tensor, state: Tensor) -> Tensor:
        """One GRU step of both directions: `gates` (2, n, 3H) is the input side, `state` (2, n, H)."""
        hidden = self.shape.hidden
        # Two products and not one bmm, which wakes all threads for one post: on a busy CPU that takes 50 times longer.
        recurrent = torch.stack([state[0] @ self._recurrent[0], state[1] @ self._recurrent[1]])  # (2, n, 3H)
        switches = (gates[..., : 2 * hidden] + recurrent[..., : 2 * hidden]).sigmoid_()  # reset and update
        reset, update = switches[..., :hidden], switches[..., hidden:]
        inner = reset * (recurrent[..., 2 * hidden :] + self._candidate_bias)
        candidate = (gates[..., 2 * hidden :] + inner).sigmoid_().mul_(2.0).sub_(1.0)
        return candidate + update * (state - candidate)


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

    def start(self, ids: Ids) -> Waiter:
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        logits, done = self._launch(ids, order)

        def wait() -> FloatArray:
            done.synchronize()
            values = np.empty(tuple(logits.shape))
            values[order] = logits.numpy()
            return values

        return wait

    @torch.inference_mode()
    def _launch(self, ids: Ids, order: Sequence[int]) -> tuple[Tensor, torch.cuda.Event]:
        """Queue copy, network and copy back; nothing waits for the GPU here."""
        lengths = torch.tensor([len(ids[i]) for i in order])
        by_step = torch.from_numpy(np.concatenate(_steps(ids, order)[0])).pin_memory()  # the order that packing wants
        with torch.cuda.stream(self._stream):
            tokens = by_step.to(self.device, non_blocking=True)
            sizes = torch.bincount(lengths).flip(0).cumsum(0).flip(0)[1:]  # posts with length > t
            packed = torch.nn.utils.rnn.PackedSequence(self._network.embedding(tokens), sizes)
            states, _ = torch.nn.utils.rnn.pad_packed_sequence(self._network.gru(packed)[0], batch_first=True)
            logits = self._network.output(pool(states.float(), lengths))
            back = torch.empty(logits.shape, pin_memory=True)
            back.copy_(logits, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # nor there
            done.record(self._stream)
        return back, done
