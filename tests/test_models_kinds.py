"""Every kind of network: its shape names its tensors, it reads what it says it reads, and it is served by a bundle."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_models_bundle import rewrite_manifest
from tiny_models import VOCABULARY, make_texts, one_thread
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from models.bundle import Bundle, save_bundle
from models.calibration import Calibration
from models.engine import HalvingRunner
from models.kinds import KINDS, load_network
from models.manifest import LOADED_FILES, MANIFEST, BundleError, Manifest, read_manifest
from models.network_weights import quantise, read_weights
from models.recurrent import RecurrentClassifier
from models.shapes import RecurrentShape, Shape
from models.tokens import Tokens
from models.torch_engine import TorchEngine, padded
from models.vocabulary import wordpiece

SMALL = {"kind": "recurrent", "embedding": 6, "hidden": 5, "n_classes": 2}
NUMBERS: dict[str, dict[str, Any]] = {
    "gru": {"embedding": 6, "hidden": 8, "n_classes": 3},
    "last": SMALL,
    "one output": SMALL | {"outputs": 1},
    "one way": SMALL | {"n_classes": 3, "cell": "lstm", "bidirectional": False},
    "attention": SMALL | {"cell": "lstm", "layers": 2, "pooling": "attention", "head": 4},
    "mean": SMALL | {"pooling": "mean"},
    "both": SMALL | {"pooling": "mean_max", "layers": 3},
    "left": SMALL | {"padding": "left", "length": 20},
    "right": SMALL | {"padding": "right", "length": 20},
    "cnn": {"kind": "cnn", "embedding": 6, "filters": 5, "n_classes": 3},
}


THREE = {name for name, numbers in NUMBERS.items() if numbers["n_classes"] == 3}


def make_kind(name: str, n_tokens: int = len(VOCABULARY)) -> tuple[Shape, torch.nn.Module]:
    """A network of one of `NUMBERS` with random weights."""
    numbers = {key: value for key, value in NUMBERS[name].items() if key != "kind"}
    kind = KINDS[NUMBERS[name].get("kind", "gru")]
    torch.manual_seed(3)
    shape = kind.shape(n_tokens=n_tokens, **numbers)
    network = kind.network(shape).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return shape, network


def make_kind_bundle(folder: Path, name: str) -> Path:
    """A bundle of such a network."""
    shape, network = make_kind(name)
    classes = ("negative", "neutral", "positive") if shape.n_classes == 3 else ("negative", "positive")
    numbers = {"n_tokens": len(VOCABULARY), **NUMBERS[name]}
    manifest = Manifest("tiny", classes, ("en",), "subword", 48, numbers, {})
    calibration = Calibration(1.3, (0.1, -0.1, 0.0)[: len(classes)])
    save_bundle(folder, manifest, network.state_dict(), wordpiece(VOCABULARY).to_str(), calibration)
    return folder


@pytest.mark.parametrize("name", NUMBERS)
def test_a_shape_names_every_tensor(name: str) -> None:
    """What weights are held against before a network is made is what the network then has."""
    shape, network = make_kind(name)
    assert shape.sizes() == {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_kind_is_served(tmp_path: Path, name: str) -> None:
    """A bundle scores as its network does, one post or many, in any order; saved again it is the same bytes."""
    folder = make_kind_bundle(tmp_path / "tiny", name)
    with one_thread():
        bundle = Bundle.load(folder, "cpu")
        texts = [*make_texts(50), "", "\ud800", "\x00", "love " * 5_000]
        found = bundle.score(texts)
        network = load_network(folder, read_manifest(folder))
        alone = [network(torch.tensor([ids]), torch.tensor([len(ids)])) for ids in bundle.encoder.encode(texts)]
    expected = bundle.calibration.apply(torch.cat(alone).detach().double().numpy())
    columns = slice(None) if len(bundle.classes) == 3 else [0, 2]
    assert found.probabilities[:, columns] == pytest.approx(expected, abs=1e-3 if name == "gru" else 1e-5)
    assert bundle.score(texts[::-1]).pos_prob == pytest.approx(found.pos_prob[::-1], abs=1e-5)
    assert len(np.unique(found.pos_prob)) > 20
    manifest, weights = read_manifest(folder), read_weights(folder)
    tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
    save_bundle(tmp_path / "again", manifest, weights, tokenizer, bundle.calibration)
    for file in (*LOADED_FILES, MANIFEST):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.parametrize("name", NUMBERS)
def test_every_kind_in_int8(tmp_path: Path, name: str) -> None:
    """Matrices as int8 move every score a little, and none far."""
    folder = make_kind_bundle(tmp_path / "tiny", name)
    manifest, calibration = read_manifest(folder), Calibration.load(folder / "calibration.json", 2 + (name in THREE))
    tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
    save_bundle(tmp_path / "small", manifest, quantise(read_weights(folder)), tokenizer, calibration)
    texts = make_texts(40)
    with one_thread():
        before, after = (Bundle.load(path, "cpu").score(texts).pos_prob for path in (folder, tmp_path / "small"))
    assert after == pytest.approx(before, abs=0.1)
    assert np.abs(after - before).max() > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "transformer"}, "'transformer', which is none of gru, recurrent, cnn"),
        ({"kind": ["gru"]}, "is none of gru"),
        ({"cell": "rnn"}, "cell 'rnn' is none of gru, lstm"),
        ({"pooling": "max"}, "pooling"),
        ({"padding": "middle"}, "padding"),
        ({"padding": "left"}, "padding left needs a length"),
        ({"layers": 10**9}, "layers"),
        ({"layers": 2}, "rnn.weight_ih_l1 is not of the shape"),
        ({"hidden": 10**9}, "is not of the shape"),
        ({"hidden": "8"}, "hidden '8' is no whole number"),
        ({"hidden": 5.0}, "hidden 5.0 is no whole number"),
        ({"bidirectional": 1}, "bidirectional"),
        ({"bidirectional": False}, "output.weight is not of the shape"),
        ({"cell": "lstm"}, "rnn.weight_ih_l0 is not of the shape"),
        ({"pooling": "attention"}, "attention.0.weight is not of the shape"),
        ({"outputs": 1}, "output.weight is not of the shape"),
        ({"outputs": 5}, "outputs 5 do not tell 2 classes"),
        ({"head": 7}, "head.0.weight is not of the shape"),
        ({"n_classes": 3}, "output.weight is not of the shape"),
        ({"n_tokens": 150}, "embedding.weight is not of the shape"),
        ({"trust": True}, "trust"),
        ({"kind": "cnn"}, "unexpected keyword"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Numbers and names that are none, or are not those of the weights: one sentence, before any memory is taken."""
    folder = make_kind_bundle(tmp_path / "tiny", "last")
    rewrite_manifest(folder, lambda tree: tree["network"].update(changes))
    with pytest.raises(BundleError, match=words) as refused:
        Bundle.load(folder, "cpu")
    assert "\n" not in str(refused.value)


def test_weights_beyond_the_shape_are_refused(tmp_path: Path) -> None:
    """A tensor that no such network has is named."""
    folder = make_kind_bundle(tmp_path / "tiny", "one way")
    rewrite_manifest(folder, lambda tree: tree["network"].update(pooling="mean"))
    Bundle.load(folder, "cpu")
    folder = make_kind_bundle(tmp_path / "deep", "both")
    rewrite_manifest(folder, lambda tree: tree["network"].update(layers=2))
    with pytest.raises(BundleError, match=r"rnn\.bias_hh_l2, .* is no part of such a network"):
        Bundle.load(folder, "cpu")


def network_of(**settings: Any) -> RecurrentClassifier:
    """A small one with random weights."""
    torch.manual_seed(5)
    return RecurrentClassifier(RecurrentShape(n_tokens=30, embedding=6, hidden=5, n_classes=2, **settings)).eval()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_read_as_the_seeds_read_it(side: str) -> None:
    """The states are those of torch's own GRU over zero vectors and words, on the side that the recipe names."""
    network = network_of(padding=side, length=9)
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    words = network.embedding(ids)
    zeros = torch.zeros(1, 9, 6)
    rows = [zeros.clone(), zeros.clone()]
    for row, post, n in zip(rows, words, (4, 2), strict=True):
        row[0, (9 - n if side == "left" else 0) : (9 if side == "left" else n)] = post[:n]
    last = network.rnn(torch.cat(rows))[1]
    expected = network.output(torch.cat([last[0], last[1]], dim=1))
    assert torch.allclose(network(ids, torch.tensor([4, 2])), expected, atol=1e-6)
    short = network_of(padding=side, length=3)
    assert torch.allclose(short(ids, torch.tensor([4, 4])), short(ids[:, :3], torch.tensor([3, 3])), atol=1e-6)


def test_unread_padding_changes_nothing() -> None:
    """Without `padding` a post scores as it does alone, whatever stands behind it in the batch."""
    network = network_of(pooling="attention", layers=2)
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 9]])
    together = network(ids, torch.tensor([4, 2]))
    assert torch.allclose(together[1], network(ids[1:, :2], torch.tensor([2]))[0], atol=1e-6)


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_attention_weights_are_of_the_words(side: str) -> None:
    """Each word's weight is the one that its state is pooled with; without padding they sum to one."""
    network = network_of(pooling="attention", padding=side, length=9 * (side != "none"))
    ids, lengths = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]]), torch.tensor([4, 2])
    weights = network.attention_weights(ids, lengths)
    assert weights.shape == (2, 4)
    states, _, read = network._run(ids, lengths)
    whole = network._attend(states, read)
    first = 9 - 2 if side == "left" else 0
    assert torch.allclose(weights[1, :2], whole[1, first : first + 2])
    assert whole[1].sum().item() == pytest.approx(1.0)
    if side == "none":
        assert weights.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_one_output_is_binary_cross_entropy() -> None:
    """The cross-entropy of the two logits made of one output is its binary cross-entropy with logits."""
    network = network_of(outputs=1)
    ids, labels = torch.tensor([[3, 4], [5, 6], [7, 8]]), torch.tensor([1, 0, 1])
    logits = network(ids, torch.tensor([2, 2, 2]))
    expected = binary_cross_entropy_with_logits(logits[:, 1], labels.float())
    assert cross_entropy(logits, labels).item() == pytest.approx(expected.item())


def test_padded_batches_are_those_of_the_tokens() -> None:
    """Rows of a batch in any order, with zeros behind."""
    tokens = Tokens.of([[1, 2, 3], [4], [5, 6]]).take(np.array([2, 0, 1]))
    ids, lengths = padded(tokens)
    assert ids.tolist() == [[5, 6, 0], [1, 2, 3], [4, 0, 0]]
    assert lengths.tolist() == [2, 3, 1]


def test_the_engine_computes_in_threads() -> None:
    """Several batches under way give what each gives alone."""
    network = network_of(cell="lstm")
    engine = TorchEngine(network, torch.device("cpu"))
    batches = [Tokens.of([[i, i + 1, i + 2], [i]]) for i in range(20)]
    waiters = [engine.start(batch) for batch in batches]
    for batch, waiter in zip(batches, waiters, strict=True):
        with torch.no_grad():
            expected = network(*padded(batch)).double().numpy()
        assert waiter() == pytest.approx(expected, abs=1e-6)


class Crowded(torch.nn.Module):
    """A network on a device that has room for two posts."""

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The first token and the length of each."""
        if len(ids) > 2:
            raise torch.OutOfMemoryError
        return torch.stack([ids[:, 0], lengths], dim=1)


def test_a_batch_that_is_too_large_for_a_device_is_halved() -> None:
    """Off the CPU a batch is computed when it is started, where running out of memory is seen."""
    engine = TorchEngine(Crowded(), torch.device("cpu"))
    engine._threads = None
    runner = HalvingRunner(engine)
    logits = runner.start(Tokens.of([[i] * (1 + i % 3) for i in range(9)]))()
    assert logits.tolist() == [[i, 1 + i % 3] for i in range(9)]
    assert runner.n_halvings > 0


def test_shapes_are_what_the_manifest_says() -> None:
    """A shape goes to JSON and back: `asdict` of it makes it again."""
    shape = RecurrentShape(n_tokens=30, embedding=6, hidden=5, n_classes=2, pooling="attention", head=3)
    assert RecurrentShape(**asdict(shape)) == shape
