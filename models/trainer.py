"""The training loop: stages, epochs, batches; average of the weights; checkpoints; early stop."""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress as ProgressBar
from torch import Tensor
from torch.nn.functional import log_softmax

from models.checkpoint import Progress, load_checkpoint, optimizer_tensors, restore_optimizer, save_checkpoint
from models.measures import FloatArray, macro_recall
from models.mixture import EncodedCorpus, Mixture, TrainingBatch
from models.networks import GruClassifier
from models.recipe import Recipe

LOG = logging.getLogger(__name__)
CHECKPOINT_STEPS = 300
WARM_UP_SHARE = 0.05
TELL_S = 10.0


def loss_of(logits: Tensor, batch: TrainingBatch, smoothing: float, batch_posts: int) -> Tensor:
    """Weighted cross-entropy over the classes that each post's source knows, over the nominal batch size.

    A small batch thereby weighs what its posts weigh. `smoothing` spreads that share of the target over the allowed
    classes.
    """
    logs = log_softmax(logits.masked_fill(~batch.allowed, -1e4), dim=1)  # (B, C)
    hit = logs.gather(1, batch.labels.unsqueeze(1)).squeeze(1)
    spread = logs.masked_fill(~batch.allowed, 0.0).sum(dim=1) / batch.allowed.sum(dim=1)
    return -(batch.weights * ((1 - smoothing) * hit + smoothing * spread)).sum() / batch_posts


@torch.no_grad()
def logits_of(network: GruClassifier, ids: Sequence[Sequence[int]], batch_posts: int = 256) -> FloatArray:
    """Logits (n, C) of the reference network without dropout, posts in the order given."""
    network.eval()
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    logits = np.empty((len(ids), network.shape.n_classes))
    for start in range(0, len(order), batch_posts):
        rows = order[start : start + batch_posts]
        lengths = torch.tensor([len(ids[i]) for i in rows])
        padded = torch.zeros(len(rows), int(lengths[-1]), dtype=torch.int64)
        for row, i in enumerate(rows):
            padded[row, : len(ids[i])] = torch.tensor(ids[i])
        logits[rows] = network(padded, lengths).numpy()
    return logits


class Trainer:
    """Trains `network` in place through all stages; afterwards it has the best averaged weights of the last stage."""

    def __init__(
        self, network: GruClassifier, recipe: Recipe, mixtures: Sequence[Mixture], development: EncodedCorpus
    ) -> None:
        self.network = network
        self.average = GruClassifier(network.shape)
        self.recipe = recipe
        self.mixtures = mixtures
        self.development = development
        self.progress = Progress()
        self.history: list[dict[str, float | str]] = []
        self._best: dict[str, Tensor] = {}
        self._interrupted = False
        self._told_at = float("-inf")
        self._start_stage()

    def run(self, checkpoint: Path, fingerprint: str) -> None:
        """Train to the end, from `checkpoint` if it is this training's. SIGINT: save, then raise KeyboardInterrupt."""
        self._resume(checkpoint, fingerprint)
        console = Console(stderr=True)
        bar = ProgressBar(console=console, transient=True, disable=not console.is_terminal)
        with self._watch_interrupt(), bar:
            while self.progress.stage < len(self.mixtures):
                self._run_epoch(bar, checkpoint, fingerprint)
                self._end_epoch()
                self._save(checkpoint, fingerprint)
        self.network.load_state_dict(self._best)

    def _run_epoch(self, bar: ProgressBar, checkpoint: Path, fingerprint: str) -> None:
        at, mixture = self.progress, self.mixtures[self.progress.stage]
        batches = mixture.batches(at.epoch)
        task = bar.add_task(
            f"{mixture.stage.name}, epoch {at.epoch + 1}/{mixture.stage.epochs}", total=len(batches), completed=at.batch
        )
        while at.batch < len(batches):
            self._step(mixture.tensors(batches[at.batch], at.epoch, at.batch), self._rate(mixture, len(batches)))
            at.batch += 1
            bar.advance(task)
            if not bar.console.is_terminal:
                self._tell(len(batches))
            interrupted = self._interrupted  # asked once: a signal between the two lines must not skip the save
            if interrupted or at.steps % CHECKPOINT_STEPS == 0:
                self._save(checkpoint, fingerprint)
            if interrupted:
                raise KeyboardInterrupt
        bar.remove_task(task)

    def _tell(self, n_batches: int) -> None:
        """A log line every TELL_S: what the bar is on a terminal."""
        if time.monotonic() - self._told_at >= TELL_S:
            self._told_at = time.monotonic()
            at = self.progress
            name = self.mixtures[at.stage].stage.name
            LOG.info("stage %s epoch %d: batch %d of %d", name, at.epoch, at.batch, n_batches)

    def _step(self, batch: TrainingBatch, rate: float) -> None:
        """One update. The seed is a function of the step, so that a resumed training drops the same units."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.progress.stage * 100_003 + self.progress.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        logits = self.network(batch.ids, torch.full((len(batch.ids),), batch.ids.shape[1]))
        loss = loss_of(logits, batch, self.recipe.label_smoothing, self.recipe.batch_posts)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self._optimizer.step()
        self.progress.steps += 1
        self.progress.loss_sum += float(loss.detach())
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights, faster in the first steps."""
        decay = min(self.recipe.average_decay, self.progress.steps / (self.progress.steps + 10))
        for mean, weight in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)

    def _rate(self, mixture: Mixture, n_batches: int) -> float:
        """Linear warm-up over the first twentieth of the stage, then linear decay to a fiftieth."""
        total = max(1, mixture.stage.epochs * n_batches)
        warm = max(1.0, WARM_UP_SHARE * total)
        share = (
            self.progress.steps / warm
            if self.progress.steps < warm
            else max(0.02, 1 - (self.progress.steps - warm) / total)
        )
        return mixture.stage.learning_rate * max(share, 0.02)

    def _end_epoch(self) -> None:
        at, stage = self.progress, self.mixtures[self.progress.stage].stage
        figure = self._develop()
        LOG.info(
            "stage %s epoch %d: loss %.4f, development macro recall %.4f",
            stage.name,
            at.epoch,
            at.loss_sum / max(1, at.batch),
            figure,
        )
        self.history.append(
            {"stage": stage.name, "epoch": at.epoch, "loss": at.loss_sum / max(1, at.batch), "macro_recall": figure}
        )
        if figure > at.best:
            at.best, at.best_epoch = figure, at.epoch
            self._best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        at.epoch, at.batch, at.loss_sum = at.epoch + 1, 0, 0.0
        if at.epoch >= stage.epochs or at.epoch - at.best_epoch > stage.patience:
            self.network.load_state_dict(self._best)
            self.progress = Progress(stage=at.stage + 1)
            self._start_stage()

    def _start_stage(self) -> None:
        self.average.load_state_dict(self.network.state_dict())
        self._optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=self.recipe.weight_decay)

    def _develop(self) -> float:
        predicted = logits_of(self.average, self.development.ids).argmax(axis=1)
        return macro_recall(self.development.labels, predicted, self.network.shape.n_classes)

    def _save(self, checkpoint: Path, fingerprint: str) -> None:
        parts = {"network": self.network.state_dict(), "average": self.average.state_dict(), "best": self._best}
        tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        save_checkpoint(checkpoint, fingerprint, self.progress, {**tensors, **optimizer_tensors(self._optimizer)})

    def _resume(self, checkpoint: Path, fingerprint: str) -> None:
        stored = load_checkpoint(checkpoint, fingerprint)
        if stored is None:
            return
        self.progress, tensors = stored
        LOG.info(
            "going on from stage %d, epoch %d, batch %d", self.progress.stage, self.progress.epoch, self.progress.batch
        )
        parts = {
            part: {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(f"{part}.")}
            for part in ("network", "average")
        }
        self.network.load_state_dict(parts["network"])
        self.average.load_state_dict(parts["average"])
        self._best = {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}
        restore_optimizer(self._optimizer, tensors)

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
