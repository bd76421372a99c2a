"""A bundle whose matrices are int8: half the bytes; the engines compute as before, from the weights read back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.bundle import Bundle, save_bundle
from models.calibration import Calibration
from models.manifest import CALIBRATION, TOKENIZER, WEIGHTS, read_manifest
from models.network_weights import quantise, read_weights
from models.paired import compare, load_labelled
from models.places import require_new


def quantize(path: Path, out: Path, data: Path | None) -> dict[str, Any]:
    """Write the int8 bundle to the new folder `out`; bytes of the weights before and after, and the paired figures.

    `data`: a CSV, or the folder of the corpora, whose development posts are then measured. Raises BundleError,
    CorpusError, both before anything is written.
    """
    manifest = read_manifest(path)
    Bundle.load(path, "cpu")
    load_labelled(data)
    require_new(out)
    name = out.name or out.resolve().name
    trained = dict(manifest.trained) | {"quantized_from": manifest.sha256}
    tokenizer = (path / TOKENIZER).read_text(encoding="utf-8")
    calibration = Calibration.load(path / CALIBRATION, len(manifest.classes))
    save_bundle(
        out, replace(manifest, name=name, trained=trained), quantise(read_weights(path)), tokenizer, calibration
    )
    sizes = {"bytes_before": (path / WEIGHTS).stat().st_size, "bytes_after": (out / WEIGHTS).stat().st_size}
    return sizes | compare(path, out, data)
