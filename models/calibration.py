"""Calibrated probabilities from logits: one temperature and a bias per class."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.manifest import BundleError, canonical_json

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """softmax(logits / temperature + bias), fitted for equal class shares: no training set's shares are built in."""

    temperature: float
    bias: tuple[float, ...]

    def apply(self, logits: FloatArray) -> FloatArray:
        """Probabilities (n, C) of logits (n, C), in float64."""
        scaled = logits / self.temperature + np.array(self.bias)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        probabilities: FloatArray = powers / powers.sum(axis=1, keepdims=True)
        return probabilities

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(canonical_json(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, n_classes: int) -> "Calibration":
        """Read JSON. Raises BundleError for anything but a temperature above 0 and `n_classes` finite biases."""
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            found = cls(float(tree["temperature"]), tuple(float(b) for b in tree["bias"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path} is no calibration: {error}") from error
        if not 0 < found.temperature < np.inf or len(found.bias) != n_classes or not np.isfinite(found.bias).all():
            raise BundleError(f"{path}: needs a temperature above 0 and {n_classes} finite biases")
        return found
