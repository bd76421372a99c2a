"""What every way of fitting a network to a task takes and gives, and a bundle written from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.bundle import save_bundle
from models.calibrate import fit_calibration
from models.encoders import Encoder
from models.engine import FloatArray, HalvingRunner
from models.kinds import KINDS
from models.manifest import Manifest
from models.measures import IntArray
from models.task_recipe import TaskRecipe, plain
from models.word_tokenizer import WordSettings


@dataclass(frozen=True)
class Labelled:
    """Texts with their classes (n,) as indices into a task's."""

    texts: Sequence[str]
    labels: IntArray


@dataclass(frozen=True)
class Start:
    """What a training begins from, beside its recipe: a bundle's folder and manifest, or a file of vectors."""

    folder: Path | None = None
    manifest: Manifest | None = None
    vectors: Path | None = None


@dataclass(frozen=True)
class Posts:
    """What a network is fitted to: to train on, and to choose and calibrate by."""

    train: Labelled
    development: Labelled
    n_classes: int


@dataclass(frozen=True)
class Fitted:
    """What a bundle is made of. `numbers`: the manifest's `network`, its kind included."""

    encoder: Encoder
    network: nn.Module
    numbers: Mapping[str, Any]
    settings: WordSettings
    history: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Checkpoint:
    """Where an interrupted training is gone on from, if what lies there has this fingerprint."""

    path: Path
    fingerprint: str


#: (recipe, posts, start, checkpoint). Raises RecipeError, BundleError before any time is spent.
Fitter = Callable[[TaskRecipe, Posts, Start, Checkpoint], Fitted]


def development_logits(fitted: Fitted, posts: Labelled) -> FloatArray:
    """Logits (n, C) as the bundle will give them on a CPU, but for the rounding of its weights."""
    engine = KINDS[fitted.numbers["kind"]].engine(fitted.network, torch.device("cpu"))
    return HalvingRunner(engine).start(fitted.encoder.encode_tokens(posts.texts))()


def write_bundle(
    folder: Path, recipe: TaskRecipe, classes: tuple[str, ...], fitted: Fitted, posts: Posts, trained: Mapping[str, Any]
) -> Manifest:
    """Calibrate by the development posts and write the bundle, which is called like its folder.

    `trained`: what else the manifest says of how it came about.
    """
    calibration = fit_calibration(development_logits(fitted, posts.development), posts.development.labels)
    manifest = Manifest(
        name=folder.name,
        classes=classes,
        languages=recipe.languages,
        preparation=recipe.preparation,
        max_tokens=fitted.encoder.max_tokens,
        network=dict(fitted.numbers),
        files={},
        trained={
            "recipe": plain(recipe),
            "history": list(fitted.history),
            "training_posts": len(posts.train.labels),
            "held_out_posts": len(posts.development.labels),
            **trained,
        },
        encoding=_plain_settings(fitted.settings),
    )
    tokenizer = fitted.encoder.tokenizer.to_str(pretty=False)
    return save_bundle(folder, manifest, fitted.network.state_dict(), tokenizer, calibration)


def _plain_settings(settings: WordSettings) -> dict[str, Any]:
    return {"keep": settings.keep, "remove": list(settings.remove), "ngrams": settings.ngrams}
