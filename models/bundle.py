"""A trained model as a folder: verify, load, score, save. torch is imported where it is first needed."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.calibration import Calibration
from models.manifest import (
    CALIBRATION,
    MANIFEST,
    REPORT,
    TOKENIZER,
    WEIGHTS,
    BundleError,
    Manifest,
    read_json,
    read_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    import torch

    from models.encoders import Encoder
    from models.engine import HalvingRunner, Waiter

__all__ = ["Bundle", "BundleError", "Manifest", "Scores", "find_bundle", "list_bundles", "read_manifest", "save_bundle"]

FloatArray = npt.NDArray[np.float64]
POSTS_PER_CHUNK = 1_024  # encoded at a time, while those before are computed
CHUNKS_AHEAD = 2  # that wait to be computed: threads or a GPU go on while a chunk is encoded
PROBABILITY_DECIMALS = 6


@dataclass(frozen=True)
class Scores:
    """Scores of n texts, in their order.

    `probabilities` (n, 3) calibrated, columns negative, neutral, positive; the neutral column is NaN for two classes.
    `pos_prob` (n,) rounded to 6 decimals: P(positive) + P(neutral) / 2, or P(positive) for two classes.
    """

    probabilities: FloatArray
    pos_prob: FloatArray
    labels: list[str]


def scores_of(probabilities: FloatArray, classes: Sequence[str]) -> Scores:
    """Scores from calibrated probabilities (n, C) with columns in the order of `classes`."""
    labels = [classes[i] for i in probabilities.argmax(axis=1)]
    if len(classes) == 3:
        return Scores(
            probabilities, np.round(probabilities[:, 2] + probabilities[:, 1] / 2, PROBABILITY_DECIMALS), labels
        )
    three = np.stack([probabilities[:, 0], np.full(len(probabilities), np.nan), probabilities[:, 1]], axis=1)
    return Scores(three, np.round(probabilities[:, 1], PROBABILITY_DECIMALS), labels)


@dataclass
class Bundle:
    """A loaded model. `sha256` is its manifest's, which holds all files'; `metrics` its report's headline."""

    name: str
    sha256: str
    classes: tuple[str, ...]
    languages: tuple[str, ...]
    pred_threshold: float
    device: str
    device_reason: str
    metrics: dict[str, float]
    calibration: Calibration
    encoder: "Encoder"
    runner: "HalvingRunner"

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> "Bundle":
        """Verify every file of `path`, then load it. `device`: `auto` (CUDA if there is one), `cpu`, `cuda`, `cuda:N`.

        Raises BundleError, naming the file, for what is missing, altered, or does not fit together, and for a device
        that is not there.
        """
        manifest = read_manifest(path)
        chosen, reason = choose_device(device)
        from models.encoders import load_encoder
        from models.engine import HalvingRunner
        from models.kinds import find_kind, load_network

        encoder = load_encoder(path, manifest)
        network = load_network(path, manifest)
        if encoder.n_tokens != network.shape.n_tokens:
            raise BundleError(
                f"{path / TOKENIZER} has {encoder.n_tokens} tokens, {WEIGHTS} has vectors for {network.shape.n_tokens}"
            )
        runner = HalvingRunner(find_kind(manifest).engine(network, chosen))
        return cls(
            manifest.name,
            manifest.sha256,
            manifest.classes,
            manifest.languages,
            manifest.pred_threshold,
            str(chosen),
            reason,
            headline_metrics(path),
            Calibration.load(path / CALIBRATION, len(manifest.classes)),
            encoder,
            runner,
        )

    @property
    def out_of_memory_halvings(self) -> int:
        """How often a batch was halved because the device was out of memory."""
        return self.runner.n_halvings

    def score(self, texts: Sequence[str], max_tokens_per_batch: int | None = None) -> Scores:
        """Scores of any texts, in their order, the same however they are batched (within 1e-5 in fp32 on the CPU).

        Raises torch.OutOfMemoryError only where the device has no room for a single text.
        """
        return scores_of(self.calibration.apply(self.logits(texts, max_tokens_per_batch)), self.classes)

    def logits(self, texts: Sequence[str], max_tokens_per_batch: int | None = None) -> FloatArray:
        """Raw logits (n, C); equal texts (retweets) are computed once."""
        numbers: dict[str, int] = {}
        rows = [numbers.setdefault(text, len(numbers)) for text in texts]
        distinct = self._logits_of_distinct(list(numbers), max_tokens_per_batch)
        return distinct if len(numbers) == len(rows) else distinct[rows]

    def _logits_of_distinct(self, texts: Sequence[str], max_tokens_per_batch: int | None) -> FloatArray:
        """While some chunks are computed the next is encoded."""
        parts: list[FloatArray] = [np.empty((0, len(self.classes)))]
        started: deque[Waiter] = deque()
        for start in range(0, len(texts), POSTS_PER_CHUNK):
            tokens = self.encoder.encode_tokens(texts[start : start + POSTS_PER_CHUNK])
            started.append(self.runner.start(tokens, max_tokens_per_batch))
            if len(started) > CHUNKS_AHEAD:
                parts.append(started.popleft()())
        parts.extend(wait() for wait in started)
        return np.concatenate(parts)


def choose_device(device: str) -> "tuple[torch.device, str]":
    """The torch device for a setting, and why. Raises BundleError for a CUDA device that is not there."""
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        if n_gpus:
            return torch.device("cuda", 0), f"auto: {torch.cuda.get_device_name(0)}"
        return torch.device("cpu"), "auto: no CUDA device found"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BundleError(f"device {device!r} is none of auto, cpu, cuda, cuda:N") from error
    if chosen.type not in {"cpu", "cuda"} or (chosen.type == "cuda" and (chosen.index or 0) >= n_gpus):
        raise BundleError(f"device {device!r} is not there: {n_gpus} CUDA devices found")
    return chosen, "as configured"


def headline_metrics(path: Path) -> dict[str, float]:
    """The figures of `report.json` that the `models` table keeps; empty without a report."""
    try:
        figures = read_json(path / REPORT)["headline"].items()
        return {str(name): float(value) for name, value in figures if isinstance(value, int | float)}
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError):
        return {}  # nothing is decided by it


def save_bundle(
    path: Path, manifest: Manifest, weights: "Mapping[str, torch.Tensor]", tokenizer: str, calibration: Calibration
) -> Manifest:
    """Write a bundle's folder, weights in fp16, or int8 as `quantise` made them. The same content, the same bytes."""
    from safetensors.torch import save

    from models.network_weights import as_stored

    path.mkdir(parents=True, exist_ok=True)
    (path / WEIGHTS).write_bytes(save(as_stored(weights)))
    (path / WEIGHTS).chmod(0o644)  # save_file makes it readable for its writer only; a service runs as another user
    (path / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    calibration.save(path / CALIBRATION)
    write_manifest(path, replace(manifest, sha256=""))
    return read_manifest(path)


def _shipped() -> Path:
    return Path(str(resources.files("models") / "bundles"))


def list_bundles() -> list[str]:
    """Names of the bundles that ship with the package."""
    return sorted(path.parent.name for path in _shipped().glob(f"*/{MANIFEST}"))


def find_bundle(name_or_path: str | Path, base_dir: Path) -> Path:
    """The folder of a bundle: a path (relative to `base_dir`), or the name of one that ships. Raises BundleError."""
    path = base_dir / name_or_path
    if (path / MANIFEST).is_file():
        return path
    shipped = _shipped() / str(name_or_path)
    if str(name_or_path) in list_bundles():
        return shipped
    if path.is_dir():
        raise BundleError(f"{path} is no bundle: {MANIFEST} is missing")
    raise BundleError(
        f"no bundle at {path}, and none that ships is called so; there are: {', '.join(list_bundles()) or 'none'}"
    )


def describe(path: Path) -> dict[str, Any]:
    """Manifest and headline figures of a bundle, for `model show`; loads no weights. Raises BundleError."""
    manifest = read_manifest(path)
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return {
        "name": manifest.name,
        "sha256": manifest.sha256,
        "classes": list(manifest.classes),
        "languages": list(manifest.languages),
        "preparation": manifest.preparation,
        "pred_threshold": manifest.pred_threshold,
        "network": dict(manifest.network),
        "bytes": size,
        "metrics": headline_metrics(path),
    }
