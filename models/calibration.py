"""Calibrated probabilities from logits: one temperature and a bias per class."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.manifest import BundleError, canonical_json, read_json

MAX_SCALE = 1e3  #: beyond it (and below its inverse) probabilities stop being numbers
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
        """Read JSON. Raises BundleError for anything but a usable temperature and `n_classes` biases."""
        try:
            tree = read_json(path)
            found = cls(float(tree["temperature"]), tuple(float(b) for b in tree["bias"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise BundleError(f"{path} is no calibration: {error}") from error
        is_sane = 1 / MAX_SCALE <= found.temperature <= MAX_SCALE and all(abs(bias) <= MAX_SCALE for bias in found.bias)
        if not is_sane or len(found.bias) != n_classes:
            raise BundleError(
                f"{path}: needs a temperature from {1 / MAX_SCALE} to {MAX_SCALE:.0f} and {n_classes} biases within "
                f"±{MAX_SCALE:.0f}"
            )
        return found
