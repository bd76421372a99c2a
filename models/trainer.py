"""The training of a recipe's stages: average of the weights, early stop, learning rates."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from models.bundle import choose_device
from models.checkpoint import Progress, optimizer_tensors, restore_optimizer
from models.hints import Hints
from models.measures import FloatArray, macro_recall
from models.mixture import EncodedCorpus, Mixture, TrainingBatch
from models.networks import GruClassifier
from models.precision import half_precision
from models.recipe import Recipe
from models.sentence_encoder import SentenceClassifier
from models.training_loop import TrainingLoop, follow

LOG = logging.getLogger(__name__)
WARM_UP_SHARE = 0.05

Network = GruClassifier | SentenceClassifier


def loss_of(logits: Tensor, batch: TrainingBatch, batch_posts: int) -> Tensor:
    """Weighted cross-entropy to each post's target over the classes that are allowed, over the nominal batch size.

    A small batch thereby weighs what its posts weigh.
    """
    logs = log_softmax(logits.masked_fill(~batch.allowed, -1e4), dim=1)  # (B, C)
    return -(batch.weights * (batch.targets * logs).sum(dim=1)).sum() / batch_posts


def logits_of(network: Network, ids: Sequence[Sequence[int]], batch_posts: int = 256) -> FloatArray:
    """Logits (n, C) of the reference network without dropout, posts in the order given."""
    return _outputs_of(network, network, ids, network.shape.n_classes, batch_posts)


def states_and_logits_of(
    network: Network, ids: Sequence[Sequence[int]], batch_posts: int = 256
) -> tuple[FloatArray, FloatArray]:
    """What the output makes the logits of (n, S), and the logits (n, C); otherwise as `logits_of`."""

    def both(padded: Tensor, lengths: Tensor) -> Tensor:
        states = network.states(padded, lengths)
        return torch.cat([states, network.output(states)], dim=1)

    width = network.output.in_features
    found = _outputs_of(network, both, ids, width + network.shape.n_classes, batch_posts)
    return found[:, :width], found[:, width:]


@torch.no_grad()
def _outputs_of(
    network: Network,
    outputs: Callable[[Tensor, Tensor], Tensor],
    ids: Sequence[Sequence[int]],
    width: int,
    batch_posts: int,
) -> FloatArray:
    """(n, width): the outputs (B, width) of padded ids (B, T) and lengths (B,), batch by batch, of like lengths."""
    network.eval()
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = np.empty((len(ids), width))
    for start in range(0, len(order), batch_posts):
        rows = order[start : start + batch_posts]
        lengths = torch.tensor([len(ids[i]) for i in rows])
        padded = torch.zeros(len(rows), int(lengths[-1]), dtype=torch.int64)
        for row, i in enumerate(rows):
            padded[row, : len(ids[i])] = torch.tensor(ids[i])
        found[rows] = outputs(padded.to(network.output.weight.device), lengths).float().cpu().numpy()
    return found


@torch.no_grad()
def mix_weights(network: Network, start: Mapping[str, Tensor], share: float) -> None:
    """Move `network`'s weights the `share` of the way back to `start`, in place.

    What it learnt last is mostly kept, and what it knew before with it (Wortsman et al. 2022, "Robust fine-tuning of
    zero-shot models", arXiv:2109.01903).
    """
    for name, weight in network.state_dict().items():
        weight.lerp_(start[name].to(weight), share)


class Trainer(TrainingLoop[list[tuple[int, int]]]):
    """Trains `network` in place through all stages; afterwards it has the averaged weights that the last stage keeps.

    They are those of its best epoch, or without patience of its last.
    """

    def __init__(
        self, network: Network, recipe: Recipe, mixtures: Sequence[Mixture], development: EncodedCorpus
    ) -> None:
        super().__init__()
        self._device, _ = choose_device("auto")
        self.network = network.to(self._device)
        self.average = copy.deepcopy(self.network)
        self.recipe = recipe
        self.hints = self._new_hints(mixtures)
        self.mixtures = mixtures
        self.development = development
        self._best: dict[str, Tensor] = {}
        self._start_stage()

    @property
    def mixture(self) -> Mixture:
        """Of the stage under way."""
        return self.mixtures[self.progress.stage]

    def title(self) -> str:
        return f"stage {self.mixture.stage.name}, epoch {self.progress.epoch + 1}/{self.mixture.stage.epochs}"

    def is_finished(self) -> bool:
        return self.progress.stage >= len(self.mixtures)

    def batches(self) -> Sequence[list[tuple[int, int]]]:
        return self.mixture.batches(self.progress.epoch)

    def train_on(self, batch: list[tuple[int, int]], n_batches: int) -> None:
        tensors = self.mixture.tensors(batch, self.progress.epoch, self.progress.batch)
        self._step(tensors.to(self._device), self._rate(self.mixture, n_batches))

    def _step(self, batch: TrainingBatch, rate: float) -> None:
        """One update. The seed is a function of the step, so that a resumed training drops the same units."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.progress.stage * 100_003 + self.progress.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        with self._precision():
            loss = self._loss(batch)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        # without the map of the hints: its gradients would leave less for the network's
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self._optimizer.step()
        self.progress.steps += 1
        self.progress.loss_sum += loss.item()
        follow(self.average, self.network, self.recipe.average_decay, self.progress.steps)

    def _loss(self, batch: TrainingBatch) -> Tensor:
        states = self.network.states(batch.ids, torch.full((len(batch.ids),), batch.ids.shape[1]))
        loss = loss_of(self.network.output(states).float(), batch, self.recipe.batch_posts)
        if self.hints is None:
            return loss
        distance: Tensor = self.hints(states, batch.hints).sum() / self.recipe.batch_posts
        return loss + self.recipe.hint_weight * distance

    def _new_hints(self, mixtures: Sequence[Mixture]) -> Hints | None:
        """For the hints that the posts have, if any."""
        n_teachers, width = mixtures[0].hint_shape
        if not n_teachers:
            return None
        torch.manual_seed(self.recipe.seed)
        return Hints(self.network.output.in_features, n_teachers, width).to(self._device)

    def _rate(self, mixture: Mixture, n_batches: int) -> float:
        """Linear warm-up over the first twentieth of the stage, then linear decay to a twentieth."""
        total = max(1, mixture.stage.epochs * n_batches)
        warm = max(1.0, WARM_UP_SHARE * total)
        share = (
            self.progress.steps / warm
            if self.progress.steps < warm
            else max(0.02, 1 - (self.progress.steps - warm) / total)
        )
        return mixture.stage.learning_rate * max(share, 0.02)

    def end_epoch(self) -> None:
        at, stage = self.progress, self.mixture.stage
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
        if figure > at.best or not stage.patience:
            at.best, at.best_epoch = figure, at.epoch
            self._best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        at.epoch, at.batch, at.loss_sum = at.epoch + 1, 0, 0.0
        is_late = bool(stage.patience) and at.epoch - at.best_epoch > stage.patience
        if at.epoch >= stage.epochs or is_late:
            self.network.load_state_dict(self._best)
            self.progress = Progress(stage=at.stage + 1, history=at.history)
            self._start_stage()

    def _precision(self) -> torch.autocast:
        return half_precision(self._device, wanted=self.recipe.half_precision)

    def _start_stage(self) -> None:
        self.average.load_state_dict(self.network.state_dict())
        learnt = [*self.network.parameters(), *(self.hints.parameters() if self.hints else ())]
        self._optimizer = torch.optim.AdamW(learnt, weight_decay=self.recipe.weight_decay)

    def _develop(self) -> float:
        with self._precision():
            predicted = logits_of(self.average, self.development.ids).argmax(axis=1)
        return macro_recall(self.development.labels, predicted, self.network.shape.n_classes)

    def tensors(self) -> Mapping[str, Tensor]:
        parts = {"network": self.network.state_dict(), "average": self.average.state_dict(), "best": self._best}
        parts["hints"] = self.hints.state_dict() if self.hints else {}
        tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        return tensors | optimizer_tensors(self._optimizer)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(part_of(tensors, "network"))
        self.average.load_state_dict(part_of(tensors, "average"))
        self._best = part_of(tensors, "best")
        if self.hints is not None:
            self.hints.load_state_dict(part_of(tensors, "hints"))
        restore_optimizer(self._optimizer, tensors)


def part_of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Those whose names begin with a part's, without it."""
    return {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
