"""The networks of every kind as nodes of an ONNX graph, each as its module's `forward` computes it.

B posts, T tokens of the longest post, L steps of the fixed length where padding is read, E embedding width, H hidden
units per direction, D = H or 2H, V tokens in the vocabulary, C classes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.calibration import Calibration
from models.linear import UNKNOWN_ID, LinearClassifier
from models.networks import GruClassifier
from models.onnx_graph import DOUBLE, FLOAT, INT64, Graph
from models.recurrent import RecurrentClassifier
from models.shapes import GruShape, RecurrentShape
from models.text_cnn import TextCnn

LOWEST = np.float32(-2.0)  # below any state of a GRU or an LSTM
# Gates in torch's order, as ONNX has them: update, reset, candidate; input, output, forget, candidate.
GATES = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}


class Steps(NamedTuple):
    """Tokens that a network reads: `ids` (B, T or L), `ends` (B, 1) int64, and which of them count, (B, T or L)."""

    ids: str
    ends: str
    is_read: str


def write_network(network: nn.Module, calibration: Calibration, notes: dict[str, str]) -> Any:
    """The model of a network and its calibration. Raises KeyError for a class of networks that is not known here."""
    graph = Graph()
    logits = WRITERS[type(network)](graph, network)
    shape: Any = network.shape
    _probabilities(graph, logits, shape, calibration)
    return graph.model(shape.n_classes, notes)


def _probabilities(graph: Graph, outputs: str, shape: Any, calibration: Calibration) -> None:
    """Outputs (B, 1 or C) to calibrated probabilities in fp32; one output is the log-odds of the second class."""
    if getattr(shape, "n_outputs", shape.n_classes) != shape.n_classes:
        outputs = graph.node("Concat", graph.node("Sub", outputs, outputs), outputs, axis=1)
    double = graph.cast(outputs, DOUBLE)
    scaled = graph.node("Div", double, graph.constant(np.array(calibration.temperature)))
    shifted = graph.node("Add", scaled, graph.constant(np.array(calibration.bias, np.float64)))
    graph.node("Cast", graph.node("Softmax", shifted, axis=1), out="probabilities", to=FLOAT)


def _write_gru(graph: Graph, network: GruClassifier) -> str:
    shape: GruShape = network.shape
    same = RecurrentShape(
        shape.n_tokens, shape.embedding, shape.hidden, shape.n_classes, bidirectional=True, pooling="mean_max"
    )
    return _write_layers(graph, network, same, "gru")


def _write_recurrent(graph: Graph, network: RecurrentClassifier) -> str:
    return _write_layers(graph, network, network.shape, "rnn")


def _write_layers(graph: Graph, network: nn.Module, shape: RecurrentShape, name: str) -> str:
    """Embedding, recurrent layers, pooling, perhaps a hidden layer, output: (B, 1 or C)."""
    state = network.state_dict()
    steps = _steps(graph) if shape.padding == "none" else _fill_up(graph, shape)
    embedded = _embed(graph, state, steps)
    if shape.padding != "none":
        embedded = graph.node("Mul", embedded, _column(graph, graph.cast(steps.is_read, FLOAT)))
        steps = steps._replace(
            ends=graph.node("Add", graph.node("Mul", steps.ends, graph.whole(0)), graph.whole(shape.length)),
            is_read=graph.node("Or", steps.is_read, graph.node("Not", steps.is_read)),
        )
    states, last = _run(graph, state, shape, name, embedded, steps)
    pooled = _pool(graph, state, shape, states, last, steps)
    if shape.head:
        pooled = graph.node("Relu", _linear(graph, state, "head.0", pooled))
    return _linear(graph, state, "output", pooled)


def _write_cnn(graph: Graph, network: TextCnn) -> str:
    state, steps = network.state_dict(), _steps(graph)
    is_word = graph.node("Unsqueeze", steps.is_read, graph.whole(1))  # (B, 1, T)
    embedded = graph.node("Transpose", _embed(graph, state, steps), perm=[0, 2, 1])  # (B, E, T)
    embedded = graph.node("Mul", embedded, graph.cast(is_word, FLOAT))
    nothing, answers = graph.constant(np.float32(0.0)), []
    for i, width in enumerate(network.shape.widths):
        kernel, bias = (graph.constant(state[f"filters.{i}.{part}"].numpy()) for part in ("weight", "bias"))
        found = graph.node("Conv", embedded, kernel, bias, pads=[0, width - 1])  # (B, F, T)
        found = graph.node("Where", is_word, graph.node("Relu", found), nothing)
        answers.append(graph.node("ReduceMax", found, graph.whole(2), keepdims=0))
    return _linear(graph, state, "output", graph.node("Concat", *answers, axis=1))


def _write_linear(graph: Graph, network: LinearClassifier) -> str:
    """How often each term occurs as a row of V numbers in float64, weighted, times the weights."""
    shape, state, steps = network.shape, network.state_dict(), _steps(graph)
    n_posts = graph.node("Shape", "ids", start=0, end=1)
    size = graph.node("Concat", n_posts, graph.whole(shape.n_tokens), axis=0)
    empty = graph.node("Expand", graph.constant(np.zeros((1, 1))), size)
    counts = graph.node(
        "ScatterElements", empty, steps.ids, graph.cast(steps.is_read, DOUBLE), axis=1, reduction="add"
    )  # (B, V)
    is_known = np.ones(shape.n_tokens)
    is_known[UNKNOWN_ID] = 0.0
    values = graph.node("Mul", counts, graph.constant(is_known))
    one = graph.constant(np.array(1.0))
    if shape.frequency == "binary":
        values = graph.node("Min", values, one)
    elif shape.frequency == "log":
        logarithm = graph.node("Add", graph.node("Log", graph.node("Max", values, one)), one)
        values = graph.node("Mul", logarithm, graph.node("Min", values, one))
    if shape.idf:
        values = graph.node("Mul", values, graph.constant(state["idf"].double().numpy()))
    if shape.unit_length:
        length = graph.node("ReduceL2", values, graph.whole(1), keepdims=1)
        values = graph.node("Div", values, graph.node("Max", length, graph.constant(np.finfo(np.float64).tiny)))
    weights, bias = state["output.weight"].double().numpy().T, state["output.bias"].double().numpy()
    product = graph.node("MatMul", values, graph.constant(weights))
    return str(graph.node("Add", product, graph.constant(bias)))


WRITERS: Mapping[type[nn.Module], Callable[[Graph, Any], str]] = {
    GruClassifier: _write_gru,
    RecurrentClassifier: _write_recurrent,
    TextCnn: _write_cnn,
    LinearClassifier: _write_linear,
}


def _steps(graph: Graph) -> Steps:
    """The tokens of each post, as many as it has."""
    ends = graph.node("Unsqueeze", graph.cast("lengths", INT64), graph.whole(1))
    n_tokens = graph.node("Squeeze", graph.node("Shape", "ids", start=1, end=2))
    places = _range(graph, n_tokens)
    return Steps("ids", ends, graph.node("Less", places, ends))


def _fill_up(graph: Graph, shape: RecurrentShape) -> Steps:
    """Posts of exactly L steps: cut, or filled up behind or before; `is_read` says which of them are words."""
    whole = graph.node("Unsqueeze", graph.cast("lengths", INT64), graph.whole(1))
    ends = graph.node("Min", whole, graph.whole(shape.length))
    places = graph.constant(np.arange(shape.length)[np.newaxis])  # (1, L)
    first = (
        graph.node("Sub", graph.whole(shape.length), ends) if shape.padding == "left" else graph.node("Sub", ends, ends)
    )
    sources = graph.node("Sub", places, first)  # (B, L): which token stands at each place
    is_word = graph.node(
        "And", graph.node("GreaterOrEqual", sources, graph.whole(0)), graph.node("Less", sources, ends)
    )
    highest = graph.node("Sub", graph.node("Shape", "ids", start=1, end=2), graph.whole(1))
    inside = graph.node("Min", graph.node("Max", sources, graph.whole(0)), highest)
    return Steps(graph.node("GatherElements", "ids", inside, axis=1), ends, is_word)


def _range(graph: Graph, stop: str) -> str:
    zero, one = graph.constant(np.array(0, np.int64)), graph.constant(np.array(1, np.int64))
    return str(graph.node("Range", zero, stop, one))


def _embed(graph: Graph, state: Mapping[str, Tensor], steps: Steps) -> str:
    return str(graph.node("Gather", graph.constant(state["embedding.weight"].numpy()), steps.ids))  # (B, T, E)


def _column(graph: Graph, tensor: str) -> str:
    """(B, T) as (B, T, 1)."""
    return str(graph.node("Unsqueeze", tensor, graph.whole(2)))


def _linear(graph: Graph, state: Mapping[str, Tensor], name: str, inputs: str) -> str:
    weights, bias = state[f"{name}.weight"].numpy().T, state.get(f"{name}.bias")
    product = graph.node("MatMul", inputs, graph.constant(weights))
    return str(product if bias is None else graph.node("Add", product, graph.constant(bias.numpy())))


def _run(
    graph: Graph, state: Mapping[str, Tensor], shape: RecurrentShape, name: str, embedded: str, steps: Steps
) -> tuple[str, str]:
    """States (B, T, D) of the last layer and its final ones (B, D)."""
    lengths = graph.cast(graph.node("Squeeze", steps.ends, graph.whole(1)), 6)  # int32, as the operators want it
    inputs, last = graph.node("Transpose", embedded, perm=[1, 0, 2]), ""  # (T, B, E)
    for layer in range(shape.layers):
        weights = [graph.constant(array) for array in _gates(state, shape, name, layer)]
        options: dict[str, Any] = {"linear_before_reset": 1} if shape.cell == "gru" else {}
        direction = "bidirectional" if shape.bidirectional else "forward"
        sides, last = graph.node(
            shape.cell.upper(), inputs, *weights, lengths, n_outputs=2, hidden_size=shape.hidden, direction=direction,
            **options,
        )  # (T, directions, B, H), (directions, B, H)  # fmt: skip
        turned = graph.node("Transpose", sides, perm=[0, 2, 1, 3])
        inputs = graph.node("Reshape", turned, graph.whole(0, 0, -1))  # (T, B, D)
    final = graph.node("Reshape", graph.node("Transpose", last, perm=[1, 0, 2]), graph.whole(0, -1))
    return graph.node("Transpose", inputs, perm=[1, 0, 2]), final


def _gates(state: Mapping[str, Tensor], shape: RecurrentShape, name: str, layer: int) -> list[Any]:
    """W, R and B of a layer, all directions stacked, gates in ONNX's order."""
    sides = ("", "_reverse")[: 1 + shape.bidirectional]

    def stacked(part: str) -> Any:
        found = (state[f"{name}.{part}_l{layer}{side}"] for side in sides)
        return torch.stack([_reordered(tensor, GATES[shape.cell]) for tensor in found]).numpy()

    biases = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    return [stacked("weight_ih"), stacked("weight_hh"), biases]


def _reordered(gates: Tensor, order: tuple[int, ...]) -> Tensor:
    parts = gates.chunk(len(order))
    return torch.cat([parts[i] for i in order])


def _pool(
    graph: Graph, state: Mapping[str, Tensor], shape: RecurrentShape, states: str, last: str, steps: Steps
) -> str:
    """(B, D), or (B, 2D) for mean and maximum; steps that do not count are left out."""
    if shape.pooling == "last":
        return last
    is_read, time_axis = _column(graph, steps.is_read), graph.whole(1)
    if shape.pooling == "attention":
        hidden = graph.node("Tanh", _linear(graph, state, "attention.0", states))
        scores = _linear(graph, state, "attention.2", hidden)  # (B, T, 1)
        among = graph.node("Where", is_read, scores, graph.constant(np.float32(-np.inf)))
        weighted = graph.node("Mul", graph.node("Softmax", among, axis=1), states)
        return str(graph.node("ReduceSum", weighted, time_axis, keepdims=0))
    summed = graph.node("Where", is_read, states, graph.constant(np.float32(0.0)))
    total = graph.node("ReduceSum", summed, time_axis, keepdims=0)
    mean: str = graph.node("Div", total, graph.cast(steps.ends, FLOAT))
    if shape.pooling == "mean":
        return mean
    readable = graph.node("Where", is_read, states, graph.constant(LOWEST))
    highest = graph.node("ReduceMax", readable, time_axis, keepdims=0)
    return str(graph.node("Concat", mean, highest, axis=1))
