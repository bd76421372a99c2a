"""The kinds of networks that a bundle may hold, and how one is loaded. A manifest without a kind means `gru`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from models.engine import Engine, make_engine
from models.linear import LinearClassifier
from models.manifest import WEIGHTS, BundleError, Manifest
from models.network_weights import read_weights
from models.networks import GruClassifier
from models.recurrent import RecurrentClassifier
from models.shapes import CnnShape, GruShape, LinearShape, RecurrentShape, Shape
from models.text_cnn import TextCnn
from models.torch_engine import TorchEngine


@dataclass(frozen=True)
class Kind:
    """What makes networks of one kind.

    `shape` takes the manifest's numbers and raises TypeError or ValueError for those it does not know; `network` is a
    module of that shape, whose `state_dict` is the file of weights; `engine` computes its logits on a device.
    """

    shape: Callable[..., Shape]
    network: Callable[[Any], nn.Module]
    engine: Callable[[Any, torch.device], Engine]


KINDS: Mapping[str, Kind] = {
    "gru": Kind(GruShape, GruClassifier, make_engine),
    "recurrent": Kind(RecurrentShape, RecurrentClassifier, TorchEngine),
    "cnn": Kind(CnnShape, TextCnn, TorchEngine),
    "linear": Kind(LinearShape, LinearClassifier, TorchEngine),
}


def find_kind(manifest: Manifest) -> Kind:
    """The kind of a bundle's network. Raises BundleError for one that is not known here."""
    name = manifest.network.get("kind", "gru")
    if not isinstance(name, str) or name not in KINDS:
        raise BundleError(f"{manifest.name} is of the kind {name!r}, which is none of {', '.join(KINDS)}")
    return KINDS[name]


def read_shape(manifest: Manifest) -> Shape:
    """The shape of a bundle's network. Raises BundleError, or what its kind raises for wrong numbers."""
    return find_kind(manifest).shape(**{name: value for name, value in manifest.network.items() if name != "kind"})


def load_network(path: Path, manifest: Manifest) -> Any:
    """The network of a bundle in fp32. Raises BundleError where its weights do not fit the manifest."""
    try:
        shape = read_shape(manifest)
        weights = read_weights(path)
        check_weights(weights, shape)
        network = find_kind(manifest).network(shape)
        network.load_state_dict(weights)
    except (SafetensorError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise BundleError(f"{path / WEIGHTS} does not fit the manifest: {error}") from error
    if shape.n_classes != len(manifest.classes):
        raise BundleError(f"{path / WEIGHTS} has {shape.n_classes} outputs for {len(manifest.classes)} classes")
    return network.eval()


def check_weights(weights: Mapping[str, Tensor], shape: Shape) -> None:
    """Raise ValueError unless the tensors are those of the shape, and finite; comes before any network is made."""
    sizes = shape.sizes()
    for name, size in sizes.items():
        if name not in weights or tuple(weights[name].shape) != size:
            raise ValueError(f"{name} is not of the shape {size}")
    if unknown := sorted(set(weights) - set(sizes)):
        raise ValueError(f"{', '.join(unknown)} is no part of such a network")
    broken = [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(f"{', '.join(broken)} has values that are no finite numbers")


def refuse_other_kinds(manifest: Manifest, done: str, kinds: tuple[str, ...] = ("gru",)) -> None:
    """Raise BundleError for a network of another of the `kinds`, which cannot be `done` (a participle) yet."""
    kind = manifest.network.get("kind", "gru")
    if kind not in kinds:
        allowed = "the kind" if len(kinds) == 1 else "the kinds"
        raise BundleError(f"{manifest.name} is of the kind {kind}; only {allowed} {', '.join(kinds)} can be {done}")
