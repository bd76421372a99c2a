"""The compiled engine: near the reference network, the same in any batches, and safe against wrong sizes."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_network

from models.bundle import Bundle, find_bundle
from models.corpora import DATA_VARIABLE, DEFAULT_DATA, load_test
from models.engine import CpuEngine, HalvingRunner
from models.fixed_point import FixedPointEngine, can_run
from models.measures import FloatArray
from models.networks import GruClassifier
from models.shapes import GruShape
from models.tokens import Tokens
from models.trainer import logits_of

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get(DATA_VARIABLE, ROOT / DEFAULT_DATA))
HIDDEN = 32

pytestmark = pytest.mark.skipif(
    not can_run(GruShape(1, 1, HIDDEN, 3)), reason="needs the compiled engine: x86-64 with AVX2, and a C compiler"
)


def make_posts(n_posts: int, n_tokens: int) -> list[list[int]]:
    """Posts of 1 to 50 tokens."""
    generator = np.random.default_rng(17)
    return [generator.integers(0, n_tokens, generator.integers(1, 51)).tolist() for _ in range(n_posts)]


@pytest.fixture(scope="module")
def network() -> GruClassifier:
    """Weights of a trained network's size."""
    torch.manual_seed(4)
    network = GruClassifier(GruShape(200, 8, HIDDEN, 3)).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return network


def probabilities(logits: FloatArray) -> FloatArray:
    """Softmax of (n, C)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def test_it_is_near_the_reference_network(network: GruClassifier) -> None:
    """Integers in place of fp32 products change no probability by more than 1e-3, and most by far less."""
    posts = make_posts(500, 200)
    expected = probabilities(logits_of(network, posts))
    found = probabilities(HalvingRunner(FixedPointEngine(network)).start(Tokens.of(posts))())
    assert found == pytest.approx(expected, abs=1e-3)
    assert np.abs(found - expected).mean() < 1e-4
    assert np.ptp(expected) > 0.5


def test_scores_do_not_depend_on_batches(network: GruClassifier) -> None:
    """Sums of integers are exact: alone, in other company or at another place in a block, logits are the same."""
    posts = make_posts(200, 200)
    runner = HalvingRunner(FixedPointEngine(network))
    together = runner.start(Tokens.of(posts))()
    for max_tokens in (1, 100, 999):
        assert runner.start(Tokens.of(posts), max_tokens)() == pytest.approx(together, abs=1e-6)
    assert runner.start(Tokens.of(posts[::-1]))() == pytest.approx(together[::-1], abs=1e-6)


def test_the_largest_sums_overflow_nowhere() -> None:
    """With all states and weights at their largest, the largest sum there is keeps its sign, or states would fall."""
    network = make_network(hidden=HIDDEN)
    for side in ("", "_reverse"):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            weight = getattr(network.gru, f"{part}_l0{side}").data
            weight.fill_(40.0 if part in {"weight_hh", "bias_ih"} else 0.0)
            weight[HIDDEN : 2 * HIDDEN] *= -1.0  # an open update gate would keep the old state
    expected = network.output(torch.ones(4 * HIDDEN)).detach().numpy()
    (found,) = HalvingRunner(FixedPointEngine(network)).start(Tokens.of([[1, 2, 3, 4]]))()
    assert found == pytest.approx(expected, abs=1e-5)


def test_what_does_not_fit_is_refused(network: GruClassifier) -> None:
    """Ids outside the vocabulary and posts outside the ids are errors, and never memory of something else."""
    engine = FixedPointEngine(network)
    one = np.ones(1, np.int64)
    for wrong in (
        Tokens.of([[200]]),
        Tokens.of([[-1]]),
        Tokens(np.zeros(3, np.int32), one * 3, one),
        Tokens(np.zeros(3, np.int32), one * 0, one * 4),
        Tokens(np.zeros(3, np.int32), one * 0, one * 0),
    ):
        with pytest.raises(ValueError, match=r"post|id"):
            engine.start(wrong)()


def test_another_width_is_left_to_torch() -> None:
    """A hidden width that is no multiple of 16 cannot run here, and does in plain torch."""
    assert not can_run(make_network(hidden=12).shape)


needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"needs the labelled tweets ({DATA_VARIABLE})")


@needs_data
@pytest.mark.long
def test_the_shipped_bundle_on_real_posts() -> None:
    """20,000 real posts: no probability is off by 1e-3, no mean of a thousand by 1e-4, and 99.9% keep their label."""
    bundle = Bundle.load(find_bundle("social-gru", ROOT), "cpu")
    texts = load_test(DATA).texts[:20_000]
    exact = HalvingRunner(CpuEngine(_network())).start(bundle.encoder.encode_tokens(texts))()
    found, expected = bundle.calibration.apply(bundle.logits(texts)), bundle.calibration.apply(exact)
    assert np.abs(found - expected).max() < 1e-3
    assert np.abs((found - expected).reshape(-1, 1_000, 3).mean(axis=1)).max() < 1e-4
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.999


@needs_data
@pytest.mark.long
def test_plain_torch_on_real_posts() -> None:
    """The engine in fp32 gives the reference network's logits within 1e-5 on the shipped weights."""
    bundle, network = Bundle.load(find_bundle("social-gru", ROOT), "cpu"), _network()
    ids = bundle.encoder.encode(load_test(DATA).texts[:2_000])
    found = HalvingRunner(CpuEngine(_network())).start(Tokens.of(ids))()
    assert found == pytest.approx(logits_of(network, ids), abs=1e-5)


def _network() -> GruClassifier:
    from models.kinds import load_network
    from models.manifest import read_manifest

    folder = find_bundle("social-gru", ROOT)
    network: GruClassifier = load_network(folder, read_manifest(folder))
    return network
