"""ONNX of every kind of network, run by ONNX Runtime beside torch."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from test_models_linear import make_linear_bundle
from tiny_models import make_bundle
from torch import nn

from models.calibration import Calibration
from models.export import export, largest_difference
from models.kinds import KINDS
from models.linear_plan import LinearPlan
from models.onnx_networks import write_network
from models.shapes import CELLS, FREQUENCIES, PADDINGS, POOLINGS, CnnShape, GruShape, LinearShape, RecurrentShape, Shape

N_TOKENS = 30
POSTS = [[5, 6, 7], [8], [9, 9, 0, 3, 2, 29, 11, 12, 9, 4], [1, 2, 3, 4, 5, 6], [0]]


def shapes() -> Iterator[tuple[str, Shape]]:
    """Every kind; of the recurrent ones every cell, pooling and padding, with the other choices taking turns."""
    yield "gru", GruShape(N_TOKENS, 6, 5, 3)
    yield "cnn", CnnShape(N_TOKENS, 6, 4, 3)
    yield "cnn", CnnShape(N_TOKENS, 6, 4, 2, outputs=1)
    for i, (cell, pooling, padding) in enumerate(product(CELLS, POOLINGS, PADDINGS)):
        yield "recurrent", RecurrentShape(
            N_TOKENS, 6, 5, 2 + i % 2, cell, 1 + i % 3, bool(i % 5), pooling, 7 * (i % 4 // 2), padding,
            length=4 if padding != "none" else 0, outputs=(i + 1) % 2,
        )  # fmt: skip
    for i, frequency in enumerate(FREQUENCIES):
        yield "linear", LinearShape(N_TOKENS, 3, frequency, idf=bool(i), unit_length=i == 2)
        yield "linear", LinearShape(N_TOKENS, 2, frequency, idf=not i, unit_length=i == 1, outputs=1)


def network_of(kind: str, shape: Shape) -> nn.Module:
    """With random weights, wide enough that a wrong gate or a read padding changes the answer."""
    torch.manual_seed(7)
    network = KINDS[kind].network(shape)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.uniform_(-1.0, 1.0)
    return network.eval()


@pytest.mark.parametrize(("kind", "shape"), list(shapes()), ids=str)
def test_onnx_equals_torch(kind: str, shape: Any) -> None:
    """In padded batches of other lengths and post by post; another calibration is told apart."""
    network, calibration = network_of(kind, shape), Calibration(1.5, (0.3, -0.2, 0.1)[: shape.n_classes])
    graph = write_network(network, calibration, {}).SerializeToString()
    for posts in (POSTS, POSTS[:2]):
        assert largest_difference(graph, network, calibration, posts) < 1e-5
    other = Calibration(1.5, (0.9, -0.2, 0.1)[: shape.n_classes])
    assert largest_difference(graph, network, other, POSTS) > 0.01


def test_a_file_is_written_with_its_tokenizer(tmp_path: Path) -> None:
    """Once it is equal; a bundle of words, whose posts may have no word that is known, as well as one of subwords."""
    subwords, words = make_bundle(tmp_path / "tiny"), make_linear_bundle(tmp_path / "words", LinearPlan())
    for i, bundle in enumerate((subwords, words)):
        out = tmp_path / f"out{i}" / "model.onnx"
        assert export(bundle, out) < 1e-5
        assert out.stat().st_size > 0
        assert (out.parent / "tokenizer.json").read_bytes() == (bundle / "tokenizer.json").read_bytes()
