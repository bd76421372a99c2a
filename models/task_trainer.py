"""The training of one network on one task: Adam, early stop by a development part, on the GPU where there is one."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.checkpoint import optimizer_tensors, restore_optimizer
from models.engine import FloatArray, HalvingRunner
from models.measures import IntArray, log_loss, macro_recall
from models.task_plans import OptimizerPlan
from models.tokens import Tokens
from models.torch_engine import TorchEngine, padded
from models.trainer import part_of
from models.training_loop import TrainingLoop, follow

LOG = logging.getLogger(__name__)
HALF = 0.5


@dataclass(frozen=True)
class LabelledTokens:
    """Posts as tokens with their classes (n,)."""

    tokens: Tokens
    labels: IntArray

    def __len__(self) -> int:
        return len(self.labels)


class TaskTrainer(TrainingLoop[IntArray]):
    """Trains `network` in place; afterwards it has the best epoch's weights, or the last one's without patience."""

    def __init__(
        self,
        network: nn.Module,
        plan: OptimizerPlan,
        train: LabelledTokens,
        development: LabelledTokens,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.network = network.to(device)
        self.plan = plan
        self._kept = copy.deepcopy(self.network) if plan.average_decay else self.network
        self._train, self._development = train, development
        self._seed, self._device = seed, device
        self._best: dict[str, Tensor] = {}
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.Adam(trained, plan.learning_rate, weight_decay=plan.weight_decay)

    def title(self) -> str:
        return f"epoch {self.progress.epoch + 1}/{self.plan.epochs}"

    def is_finished(self) -> bool:
        at = self.progress
        is_late = bool(self.plan.patience) and at.epoch - at.best_epoch > self.plan.patience and at.epoch > 0
        return at.epoch >= self.plan.epochs or is_late

    def batches(self) -> Sequence[IntArray]:
        """Rows of each batch, all of one length: nothing is padded, and nothing has to be packed. In random order."""
        generator = np.random.default_rng([self._seed, self.progress.epoch])
        order = generator.permutation(len(self._train))
        lengths = self._train.tokens.lengths[order]
        by_length = np.argsort(lengths, kind="stable")
        groups = np.split(order[by_length], np.flatnonzero(np.diff(lengths[by_length])) + 1)
        size = self.plan.batch_posts
        batches = [group[i : i + size] for group in groups for i in range(0, len(group), size)]
        return [batches[i] for i in generator.permutation(len(batches))]

    def train_on(self, batch: IntArray, n_batches: int) -> None:  # noqa: ARG002  # its rate does not fall by the step
        torch.manual_seed(self._seed * 1_000_003 + self.progress.steps)  # a resumed training drops the same units
        ids, lengths = padded(self._train.tokens.take(batch))
        labels = torch.from_numpy(self._train.labels[batch]).to(self._device)
        self.network.train()
        loss = cross_entropy(self.network(ids.to(self._device), lengths), labels, reduction="sum")
        self._optimizer.zero_grad()
        torch.autograd.backward(loss / self.plan.batch_posts)  # a small batch weighs what its posts weigh
        if self.plan.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        self._optimizer.step()
        self.progress.steps += 1
        if self._kept is not self.network:
            follow(self._kept, self.network, self.plan.average_decay, self.progress.steps)
        self.progress.loss_sum += loss.item()

    def _rate(self) -> float:
        """Halved whenever the development loss has not fallen for `plateau` epochs; a function of the history."""
        rate, lowest, since = self.plan.learning_rate, float("inf"), 0
        for epoch in self.history:
            lowest, since = (
                (epoch["development_loss"], 0) if epoch["development_loss"] < lowest else (lowest, since + 1)
            )
            if self.plan.plateau and since >= self.plan.plateau:
                rate, since = rate * HALF, 0
        return rate

    def end_epoch(self) -> None:
        at = self.progress
        logits = logits_of(self._kept, self._development.tokens, self._device)
        labels = self._development.labels
        figure = macro_recall(labels, logits.argmax(axis=1), logits.shape[1])
        epoch = {
            "epoch": at.epoch,
            "loss": at.loss_sum / len(self._train),
            "development_loss": log_loss(labels, softmax(logits)),
            "macro_recall": figure,
            "accuracy": float((logits.argmax(axis=1) == labels).mean()),
        }
        LOG.info(
            "epoch %d: loss %.4f, development loss %.4f, accuracy %.4f, macro recall %.4f",
            *(epoch[key] for key in ("epoch", "loss", "development_loss", "accuracy", "macro_recall")),
        )
        self.history.append(epoch)
        if figure > at.best or not self.plan.patience:
            at.best, at.best_epoch = figure, at.epoch
            self._best = {name: tensor.detach().clone() for name, tensor in self._kept.state_dict().items()}
        at.epoch, at.batch, at.loss_sum = at.epoch + 1, 0, 0.0
        if self.is_finished():
            self.network.load_state_dict(self._best)

    def tensors(self) -> Mapping[str, Tensor]:
        parts = {"network": self.network.state_dict(), "best": self._best}
        if self._kept is not self.network:
            parts["average"] = self._kept.state_dict()
        tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        return tensors | optimizer_tensors(self._optimizer)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(part_of(tensors, "network"))
        if self._kept is not self.network:
            self._kept.load_state_dict(part_of(tensors, "average"))
        self._best = part_of(tensors, "best")
        restore_optimizer(self._optimizer, tensors)


def logits_of(network: nn.Module, tokens: Tokens, device: torch.device) -> FloatArray:
    """Logits (n, C) of posts in their order, without dropout."""
    return HalvingRunner(TorchEngine(network, device)).start(tokens)()


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities (n, C), not calibrated."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)
