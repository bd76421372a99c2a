"""What a training needs to go on after an interruption, as safetensors and JSON: no pickle here either."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

LOG = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a training stands. `batch` is the next of `epoch` of `stage`; `best` the stage's best figure."""

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    steps: int = 0  # of the optimizer, in this stage
    best: float = -1.0
    best_epoch: int = -1
    loss_sum: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)  # of all stages, what is told of each epoch


def save_checkpoint(path: Path, fingerprint: str, progress: Progress, tensors: Mapping[str, Tensor]) -> None:
    """Write beside, then rename: a kill at any moment leaves the old checkpoint or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    fresh = path.with_suffix(".fresh")
    save_file(whole, fresh, metadata={"fingerprint": fingerprint, "progress": json.dumps(asdict(progress))})
    fresh.replace(path)


def load_checkpoint(path: Path, fingerprint: str) -> tuple[Progress, dict[str, Tensor]] | None:
    """The last checkpoint, or None where there is none of this recipe, data and seed (`fingerprint`)."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as stored:
            metadata = stored.metadata() or {}
            if metadata.get("fingerprint") == fingerprint:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # no mapping
                return Progress(**json.loads(metadata["progress"])), tensors
        LOG.warning("%s is of another recipe, data or seed: this training begins anew and replaces it", path)
    except SafetensorError:
        LOG.warning("%s is damaged: this training begins anew and replaces it", path)
    return None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{i}.{key}": value for i, values in state.items() for key, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
