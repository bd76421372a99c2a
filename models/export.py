"""A bundle's network as ONNX: any number of posts of any length in, calibrated probabilities out."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.bundle import Bundle
from models.calibration import Calibration
from models.kinds import load_network, refuse_other_kinds
from models.manifest import TOKENIZER, BundleError, read_manifest
from models.networks import GruClassifier

OPSET, IR_VERSION = 18, 10
TOLERANCE = 1e-4  # fp32 in another order of sums
SAMPLES = ("good", "I love it, thank you!", "not what I paid for :(", "the shop opens on Monday", "", "so bad " * 40)


def export(path: Path, out: Path) -> float:
    """Write `out` with tokenizer.json beside it, checked equal to torch; the largest difference of a probability.

    Nothing is left at `out` unless it is equal. Raises BundleError, and ModuleNotFoundError without onnx.
    """
    import onnx

    manifest = read_manifest(path)
    refuse_other_kinds(manifest, "exported")
    if out.parent.resolve() == path.resolve():
        raise BundleError(f"{out} lies in the bundle itself: name another folder")
    network = load_network(path, manifest)
    bundle = Bundle.load(path, "cpu")
    model = _model(network, bundle.calibration, {"classes": ",".join(manifest.classes)})
    ids = bundle.encoder.encode(SAMPLES)
    difference = largest_difference(model.SerializeToString(), network, bundle.calibration, ids)
    if not difference <= TOLERANCE:
        raise BundleError(f"ONNX Runtime gives other probabilities than torch, by up to {difference:.2g}")
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, out)
    shutil.copyfile(path / TOKENIZER, out.parent / TOKENIZER)
    return difference


def largest_difference(
    serialized: bytes, network: GruClassifier, calibration: Calibration, posts: list[list[int]]
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


def _model(network: GruClassifier, calibration: Calibration, notes: dict[str, str]) -> Any:
    from onnx import checker, helper, numpy_helper

    weights = _weights(network, calibration)
    initial = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(_nodes(network.shape.hidden), "bundle", *_ends(network.shape.n_classes), initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, notes)
    checker.check_model(model)
    return model


def _weights(network: GruClassifier, calibration: Calibration) -> dict[str, Any]:
    """Both directions stacked, gates in ONNX's order update, reset, candidate (torch's: reset, update, candidate)."""
    state = network.state_dict()

    def both(name: str) -> Any:
        return torch.stack([_update_first(state[f"gru.{name}_l0{side}"]) for side in ("", "_reverse")]).numpy()

    temperature = np.float32(calibration.temperature)
    return {
        "table": state["embedding.weight"].numpy(),
        "w": both("weight_ih"),
        "r": both("weight_hh"),
        "b": np.concatenate([both("bias_ih"), both("bias_hh")], axis=1),
        "output": state["output.weight"].numpy().T / temperature,
        "added": state["output.bias"].numpy() / temperature + np.array(calibration.bias, np.float32),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "time_axis": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "nothing": np.array(0.0, np.float32),
        "lowest": np.array(-2.0, np.float32),  # below any state of a GRU
        "flat": np.array([0, 0, -1], np.int64),
    }


def _update_first(gates: Tensor) -> Tensor:
    reset, update, candidate = gates.chunk(3)
    return torch.cat([update, reset, candidate])


def _ends(n_classes: int) -> tuple[list[Any], list[Any]]:
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["posts", "tokens"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["posts"]),
    ]
    return inputs, [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["posts", n_classes])]


def _nodes(hidden: int) -> list[Any]:
    """Embedding, GRU, mean and max over each post's own steps, output: `GruClassifier.forward`, then calibration."""
    from onnx import helper

    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Gather", ["table", "ids"], "rows", {}),
        ("Transpose", ["rows"], "embedded", {"perm": [1, 0, 2]}),  # (T, B, E)
        (
            "GRU",
            ["embedded", "w", "r", "b", "lengths"],
            "sides",
            {"hidden_size": hidden, "direction": "bidirectional", "linear_before_reset": 1},
        ),  # (T, 2, B, H)
        ("Transpose", ["sides"], "turned", {"perm": [2, 0, 1, 3]}),
        ("Reshape", ["turned", "flat"], "states", {}),  # (B, T, 2H)
        ("Shape", ["ids"], "n_tokens_axis", {"start": 1, "end": 2}),
        ("Squeeze", ["n_tokens_axis"], "n_tokens", {}),
        ("Range", ["zero", "n_tokens", "one"], "steps", {}),
        ("Cast", ["lengths"], "ends", {"to": 7}),
        ("Unsqueeze", ["ends", "time_axis"], "ends_column", {}),
        ("Less", ["steps", "ends_column"], "is_read", {}),  # (B, T)
        ("Unsqueeze", ["is_read", "two"], "is_read_state", {}),
        ("Where", ["is_read_state", "states", "lowest"], "readable", {}),
        ("ReduceMax", ["readable", "time_axis"], "highest", {"keepdims": 0}),
        ("Where", ["is_read_state", "states", "nothing"], "summed", {}),
        ("ReduceSum", ["summed", "time_axis"], "total", {"keepdims": 0}),
        ("Cast", ["ends_column"], "divisor", {"to": 1}),
        ("Div", ["total", "divisor"], "mean", {}),
        ("Concat", ["mean", "highest"], "pooled", {"axis": 1}),
        ("MatMul", ["pooled", "output"], "product", {}),
        ("Add", ["product", "added"], "logits", {}),
        ("Softmax", ["logits"], "probabilities", {"axis": 1}),
    ]
    return [helper.make_node(kind, inputs, [name], **options) for kind, inputs, name, options in steps]
