"""Weights as a bundle's file holds them: fp16, or int8 rows with a scale each, which become fp32 when read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.manifest import WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

SCALE = ".scale"  #: behind a tensor's name: what one of each row's integers stands for, (rows, 1) fp32
MAX_INT8 = 127


def read_weights(path: Path) -> "dict[str, Tensor]":
    """The tensors of a bundle in fp32. Raises SafetensorError, OSError, or ValueError for int8 without its scale."""
    from safetensors.torch import load_file

    return dequantise(load_file(path / WEIGHTS))


def as_stored(weights: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The tensors of a file by name: fp16, but int8 and its scales as they are."""
    import torch

    def stored(name: str, tensor: "Tensor") -> "Tensor":
        is_exact = tensor.dtype == torch.int8 or name.endswith(SCALE)
        return tensor.detach().to("cpu", tensor.dtype if is_exact else torch.float16).contiguous()

    return {name: stored(name, tensor) for name, tensor in sorted(weights.items())}


def dequantise(weights: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """fp32 tensors of those in a file; scales are gone."""
    import torch

    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.endswith(SCALE):
            continue
        found[name] = tensor.float()
        if tensor.dtype == torch.int8:
            scale = weights.get(name + SCALE)
            if scale is None or tuple(scale.shape) != (len(tensor), 1):
                raise ValueError(f"{name} is int8 without a scale for each row")
            found[name] *= scale.float()
    return found


def quantise(weights: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Every matrix as int8 rows with a symmetric scale each (the largest of a row becomes 127); the rest unchanged."""
    import torch

    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.dim() != 2:
            found[name] = tensor
            continue
        scale = (tensor.abs().amax(dim=1, keepdim=True) / MAX_INT8).clamp_min(1e-12)
        found[name] = (tensor / scale).round().clamp(-MAX_INT8, MAX_INT8).to(torch.int8)
        found[name + SCALE] = scale
    return found
