"""What every training does: epochs of batches under a progress bar, a checkpoint now and then, and Ctrl-C at any time.

Whatever is drawn must be a function of seed and progress, so that a resumed training ends as an uninterrupted one does.
"""

import logging
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

import torch
from rich.console import Console
from rich.progress import Progress as ProgressBar
from torch import Tensor, nn

from models.checkpoint import Progress, load_checkpoint, save_checkpoint

LOG = logging.getLogger(__name__)
CHECKPOINT_S = 60.0
SAVE_SHARE = 0.05  # of the time goes into checkpoints, those of a large network take seconds
MAX_CHECKPOINT_S = 600.0
TELL_S = 10.0

Batch = TypeVar("Batch")


class TrainingLoop(ABC, Generic[Batch]):
    """Runs the epochs of a training; the rest is what its subclasses say."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._interrupted = False
        self._told_at = float("-inf")
        self._checkpoint_s = CHECKPOINT_S

    @abstractmethod
    def title(self) -> str:
        """What the epoch under way is called."""

    @abstractmethod
    def is_finished(self) -> bool:
        """Whether the last epoch has ended."""

    @abstractmethod
    def batches(self) -> Sequence[Batch]:
        """Those of the epoch under way, in order."""

    @abstractmethod
    def train_on(self, batch: Batch, n_batches: int) -> None:
        """One update with a batch, of `n_batches` in this epoch; counts the step."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Measure, remember the best weights, and go on to the next epoch."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """All that has to be kept to go on later."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """What is told of each epoch that has ended, in their order."""
        return self.progress.history

    def run(self, checkpoint: Path, fingerprint: str) -> None:
        """Train to the end, from `checkpoint` if it is this training's. SIGINT: save, then raise KeyboardInterrupt."""
        stored = load_checkpoint(checkpoint, fingerprint)
        if stored is not None:
            self.progress, tensors = stored
            at = self.progress
            LOG.info("going on from stage %d, epoch %d, batch %d", at.stage, at.epoch, at.batch)
            self.restore(tensors)
        console = Console(stderr=True)
        bar = ProgressBar(console=console, transient=True, disable=not console.is_terminal)
        with self._watch_interrupt(), bar:
            while not self.is_finished():
                self._run_epoch(bar, checkpoint, fingerprint)
                self.end_epoch()
                self._save(checkpoint, fingerprint)
                if self._interrupted:  # while measuring or saving
                    self._stop(checkpoint)

    def _run_epoch(self, bar: ProgressBar, checkpoint: Path, fingerprint: str) -> None:
        at, batches = self.progress, self.batches()
        task = bar.add_task(self.title(), total=len(batches), completed=at.batch)
        saved_at = time.monotonic()
        while at.batch < len(batches):
            self.train_on(batches[at.batch], len(batches))
            at.batch += 1
            bar.advance(task)
            if not bar.console.is_terminal:
                self._tell(len(batches))
            interrupted = self._interrupted  # asked once: a signal between the two lines must not skip the save
            if interrupted or time.monotonic() - saved_at > self._checkpoint_s:
                self._save(checkpoint, fingerprint)
                saved_at = time.monotonic()
            if interrupted:
                self._stop(checkpoint)
        bar.remove_task(task)

    def _stop(self, checkpoint: Path) -> NoReturn:
        LOG.warning("interrupted: the same command goes on from %s", checkpoint)
        raise KeyboardInterrupt

    def _tell(self, n_batches: int) -> None:
        """A log line every TELL_S: what the bar is on a terminal."""
        if time.monotonic() - self._told_at >= TELL_S:
            self._told_at = time.monotonic()
            LOG.info("%s: batch %d of %d", self.title(), self.progress.batch, n_batches)

    def _save(self, checkpoint: Path, fingerprint: str) -> None:
        began = time.monotonic()
        save_checkpoint(checkpoint, fingerprint, self.progress, self.tensors())
        self._checkpoint_s = checkpoint_s(time.monotonic() - began)

    @contextmanager
    def _watch_interrupt(self) -> Iterator[None]:
        """SIGINT sets a flag while training; only the main thread may say so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupted = True


def checkpoint_s(took_s: float) -> float:
    """Seconds until the next checkpoint after one that took so many."""
    return min(max(CHECKPOINT_S, took_s / SAVE_SHARE), MAX_CHECKPOINT_S)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float, n_steps: int) -> None:
    """Move the exponential average of a network's weights towards them, faster in the first steps.

    Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging"; exponential as in Adam's paper.
    """
    decay = min(decay, n_steps / (n_steps + 10))
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
