"""engine.Engine for any network in plain torch: posts of a batch padded to its longest, whose padding is not read."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from models.engine import FloatArray, Waiter
from models.tokens import Tokens


class TorchEngine:
    """fp32 on any device. On the CPU batches run side by side on threads of their own, each operation on one.

    Elsewhere `start` computes the batch itself: what is too large for a device must be known there, to be halved.
    """

    max_tokens = 8_192

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._device = device
        self._network = network.to(device).eval()
        self._threads = _threads() if device.type == "cpu" else None

    def start(self, tokens: Tokens) -> Waiter:
        if self._threads is not None:
            return self._threads.submit(self._logits, tokens).result
        logits = self._logits(tokens)
        return lambda: logits

    @torch.inference_mode()
    def _logits(self, tokens: Tokens) -> FloatArray:
        ids, lengths = padded(tokens)
        logits: Tensor = self._network(ids.to(self._device), lengths)
        return logits.double().cpu().numpy()


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), "score", initializer=torch.set_num_threads, initargs=(1,))


def padded(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """ids (B, T) int64 with zeros behind, and lengths (B,) int64."""
    steps = np.arange(tokens.lengths.max(initial=1))
    is_read = steps < tokens.lengths[:, None]  # (B, T)
    ids = np.zeros(is_read.shape, np.int64)
    ids[is_read] = tokens.ids[(tokens.starts[:, None] + steps)[is_read]]
    return torch.from_numpy(ids), torch.from_numpy(tokens.lengths)
