"""A bundle's network as ONNX: any number of posts of any length in, calibrated probabilities out."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.bundle import Bundle
from models.calibration import Calibration
from models.kinds import load_network
from models.manifest import MANIFEST, TOKENIZER, BundleError, read_manifest
from models.onnx_networks import write_network
from models.places import require_writable

TOLERANCE = 1e-4  # fp32 in another order of sums
SAMPLES = ("good", "I love it, thank you!", "not what I paid for :(", "the shop opens on Monday", "", "so bad " * 40)


def export(path: Path, out: Path) -> float:
    """Write `out` with tokenizer.json beside it, checked equal to torch; the largest difference of a probability.

    Nothing is left at `out` unless it is equal. Raises BundleError, and ModuleNotFoundError without onnx.
    """
    import onnx

    manifest = read_manifest(path)
    if (out.parent / MANIFEST).exists():
        raise BundleError(f"{out} would lie in a bundle: name another folder")
    beside, own = out.parent / TOKENIZER, (path / TOKENIZER).read_bytes()
    if beside.exists() and beside.read_bytes() != own:
        raise BundleError(f"{beside} is another bundle's: name another folder")
    require_writable(out.parent)
    network = load_network(path, manifest)
    bundle = Bundle.load(path, "cpu")
    model = write_network(network, bundle.calibration, {"classes": ",".join(manifest.classes)})
    ids = bundle.encoder.encode(SAMPLES)
    difference = largest_difference(model.SerializeToString(), network, bundle.calibration, ids)
    if not difference <= TOLERANCE:
        raise BundleError(f"ONNX Runtime gives other probabilities than torch, by up to {difference:.2g}")
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, out)
    beside.write_bytes(own)
    return difference


def largest_difference(
    serialized: bytes, network: nn.Module, calibration: Calibration, posts: list[list[int]]
) -> float:
    """Between the graph's probabilities and torch's, of `posts` in one padded batch and each alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (posts, *([post] for post in posts)):
        ids, lengths = _padded(batch)
        (found,) = session.run(None, {"ids": ids.numpy(), "lengths": lengths.to(torch.int32).numpy()})
        with torch.inference_mode():
            expected = calibration.apply(network(ids, lengths).double().numpy())
        worst = max(worst, float(np.abs(found - expected).max()))
    return worst


def _padded(posts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """(B, T) int64, zeros behind, and the lengths (B,)."""
    lengths = torch.tensor([len(post) for post in posts])
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(post) for post in posts], batch_first=True), lengths
