"""Which posts make an epoch's batches: a function of seed, stage and epoch alone, for a resumed training's sake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.corpora import CLASSES
from models.recipe import Recipe, Stage

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# Feelings whose emoji are appended to posts of a label. The others (laughter, shock, boredom, doubt) go both ways.
FEELINGS_OF_LABEL = {
    0: ("xxsad", "xxangry", "xxdisgust", "xxbad", "xxsad", "xxangry", "xxfear", "xxbored"),
    1: ("xxemoji", "xxemoji", "xxthink", "xxemoji"),
    2: ("xxlove", "xxjoy", "xxcelebrate", "xxgreat", "xxthanks", "xxlove", "xxwink", "xxlaugh"),
}


@dataclass(frozen=True)
class EncodedCorpus:
    """Token ids and labels of one source. `class_weights` (C,) make its classes count alike; 0 for a class it lacks.

    `taught` (n, C): the teachers' probabilities, `hints` (n, K, D) float16: the K teachers' states; NaN for the posts
    that are never drawn.
    """

    ids: Sequence[Sequence[int]]
    labels: IntArray
    class_weights: npt.NDArray[np.float64]
    taught: npt.NDArray[np.float32] | None = None
    hints: npt.NDArray[np.float16] | None = None

    @classmethod
    def of(cls, ids: Sequence[Sequence[int]], labels: Sequence[int]) -> "EncodedCorpus":
        """Class weights are total / (classes present x count), as in scikit-learn's `balanced`."""
        counts = np.bincount(np.asarray(labels, np.int64), minlength=len(CLASSES))
        present = counts > 0
        weights = np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 0.0)
        return cls(ids, np.asarray(labels, np.int64), weights)


@dataclass(frozen=True)
class TrainingBatch:
    """B posts of one length T, so that nothing is padded."""

    ids: Tensor  # (B, T) int64
    targets: Tensor  # (B, C) float32: shares of the classes, 0 for one that is not allowed
    weights: Tensor  # (B,) float32
    allowed: Tensor  # (B, C) bool: the classes that the post's source, or its teacher, knows
    hints: Tensor  # (B, K, D) float32: the teachers' states; zeros where there are none, (B, 0, 0) without hints

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same on a device."""
        parts = self.ids, self.targets, self.weights, self.allowed, self.hints
        return TrainingBatch(*(part.to(device) for part in parts))


def targets_of(labels: IntArray, allowed: npt.NDArray[np.bool_], smoothing: float) -> FloatArray:
    """(B, C): 1 for each post's label (B,), but for the `smoothing` share, which is spread over the allowed classes."""
    hit = np.eye(allowed.shape[1])[labels]
    targets: FloatArray = (1 - smoothing) * hit + smoothing * allowed / allowed.sum(axis=1, keepdims=True)
    return targets


def draw(n_posts: int, n_source: int, epoch: int, seed: Sequence[int]) -> IntArray:
    """Indices of an epoch's `n_posts` out of `n_source`, through one permutation after the other without a gap."""
    first, last = epoch * n_posts, (epoch + 1) * n_posts
    rounds = range(first // n_source, (last - 1) // n_source + 1)
    order = np.concatenate([np.random.default_rng([*seed, i]).permutation(n_source) for i in rounds])
    offset = first - rounds.start * n_source
    return np.asarray(order[offset : offset + n_posts], np.int64)


class Mixture:
    """The batches of a stage's epochs."""

    def __init__(
        self, recipe: Recipe, stage_index: int, sources: Mapping[str, EncodedCorpus], vocabulary: Mapping[str, int]
    ) -> None:
        self.recipe = recipe
        self.stage: Stage = recipe.stages[stage_index]
        self.sources = [(name, sources[name]) for name in self.stage.posts]
        shapes = {corpus.hints.shape[1:] for corpus in sources.values() if corpus.hints is not None}
        self.hint_shape: tuple[int, int] = max(shapes, default=(0, 0))  #: (K, D) of the hints of any post
        self._seed = [recipe.seed, stage_index]
        self._emoji = {
            label: [vocabulary[f] for f in names if f in vocabulary] for label, names in FEELINGS_OF_LABEL.items()
        }

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """The epoch's batches in order: each a list of (source, post) pairs of one length."""
        pairs = [
            (s, int(i))
            for s, (name, corpus) in enumerate(self.sources)
            for i in self._drawn(s, name, len(corpus.labels), epoch)
        ]
        generator = np.random.default_rng([*self._seed, epoch, 1])
        by_length: dict[int, list[tuple[int, int]]] = {}
        for k in generator.permutation(len(pairs)):
            source, post = pairs[k]
            by_length.setdefault(len(self.sources[source][1].ids[post]), []).append(pairs[k])
        size = self.recipe.batch_posts
        batches = [group[i : i + size] for group in by_length.values() for i in range(0, len(group), size)]
        return [batches[k] for k in generator.permutation(len(batches))]

    def drawn(self, source: str) -> set[int]:
        """The posts of a source that the stage's epochs draw, if all of them are run."""
        names = [name for name, _ in self.sources]
        if source not in names:
            return set()
        number = names.index(source)
        n_source = len(self.sources[number][1].labels)
        epochs = (self._drawn(number, source, n_source, epoch) for epoch in range(self.stage.epochs))
        return {int(post) for drawn in epochs for post in drawn}

    def _drawn(self, source: int, name: str, n_source: int, epoch: int) -> IntArray:
        recipe = self.recipe
        is_asked_about = recipe.teacher_share > 0 and name not in recipe.untaught
        if recipe.fresh_epochs and is_asked_about:  # other posts would have to be asked about, too
            epoch %= recipe.fresh_epochs
        return draw(self.stage.posts[name], n_source, epoch, [*self._seed, source])

    def tensors(self, pairs: Sequence[tuple[int, int]], epoch: int, batch: int) -> TrainingBatch:
        """One batch as tensors. Some whole batches get emoji of each post's label at the end.

        Where a teacher overrules the label, what the teacher says counts for it.
        """
        corpora = [self.sources[s][1] for s, _ in pairs]
        labels = np.array([corpus.labels[i] for corpus, (_, i) in zip(corpora, pairs, strict=True)])
        ids = np.array([corpus.ids[i] for corpus, (_, i) in zip(corpora, pairs, strict=True)], np.int64)  # (B, T)
        generator = np.random.default_rng([*self._seed, epoch, 2, batch])
        targets, allowed = self._targets(pairs, labels)
        heard = np.array(
            [not self._is_overruled(source, corpus) for (source, _), corpus in zip(pairs, corpora, strict=True)]
        )
        if generator.random() < self.recipe.emoji_share and all(self._emoji.values()):
            feelings = np.where(heard, labels, targets.argmax(axis=1))
            ids = np.concatenate([ids, self._emoji_columns(feelings, generator)], axis=1)
        scale = np.array([self.stage.weights.get(self.sources[s][0], 1.0) for s, _ in pairs])
        balance = np.array([corpus.class_weights[label] for corpus, label in zip(corpora, labels, strict=True)])
        weights = scale * np.where(heard, balance, 1.0)
        return TrainingBatch(
            torch.from_numpy(ids),
            torch.from_numpy(targets.astype(np.float32)),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(allowed),
            torch.from_numpy(self._hints(pairs)),
        )

    def _hints(self, pairs: Sequence[tuple[int, int]]) -> npt.NDArray[np.float32]:
        found = np.zeros((len(pairs), *self.hint_shape), np.float32)
        for row, (source, post) in enumerate(pairs):
            hints = self.sources[source][1].hints
            if hints is not None:
                found[row] = hints[post]
        return found

    def _targets(self, pairs: Sequence[tuple[int, int]], labels: IntArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """(B, C) each: what the network shall say, the teacher's share of it included, and the classes it may."""
        corpora = [self.sources[s][1] for s, _ in pairs]
        allowed = np.stack([corpus.class_weights > 0 for corpus in corpora])
        targets = targets_of(labels, allowed, self.recipe.label_smoothing)
        for row, (corpus, (source, post)) in enumerate(zip(corpora, pairs, strict=True)):
            share = 1.0 if self._is_overruled(source, corpus) else self.recipe.teacher_share
            if share and corpus.taught is not None:
                allowed[row] = True
                targets[row] = share * corpus.taught[post] + (1 - share) * targets[row]
        return targets, allowed

    def _is_overruled(self, source: int, corpus: EncodedCorpus) -> bool:
        """Whether the teachers alone are heard of a source's posts."""
        return corpus.taught is not None and self.sources[source][0] in self.recipe.untrusted

    def _emoji_columns(self, labels: IntArray, generator: np.random.Generator) -> IntArray:
        """(B, 1 or 2): one emoji per post, perhaps twice."""
        chosen = np.array([generator.choice(self._emoji[int(label)]) for label in labels], np.int64)
        return np.repeat(chosen[:, None], int(generator.integers(1, 3)), axis=1)
