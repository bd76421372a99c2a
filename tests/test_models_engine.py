"""The engine: equal to the reference network, and unharmed by a device that is out of memory."""

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, make_bundle, make_network, make_texts

from models.bundle import Bundle
from models.engine import CpuEngine, HalvingRunner, Waiter, batches_by_length
from models.measures import FloatArray
from models.tokens import Tokens
from models.trainer import logits_of


def make_ids(n_posts: int) -> list[list[int]]:
    """Posts of 1 to 50 tokens."""
    generator = np.random.default_rng(11)
    return [generator.integers(0, len(VOCABULARY), generator.integers(1, 51)).tolist() for _ in range(n_posts)]


class SmallDevice:
    """An engine that is out of memory above `max_posts`; the logits say which post they are of."""

    max_tokens = 1_000

    def __init__(self, max_posts: int) -> None:
        self.max_posts = max_posts
        self.sizes: list[int] = []

    def start(self, tokens: Tokens) -> Waiter:
        if len(tokens) > self.max_posts:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(tokens))
        logits: FloatArray = np.stack([tokens.ids[tokens.starts], tokens.lengths], axis=1).astype(float)
        return lambda: logits


def test_engine_equals_the_reference_network() -> None:
    """Folded tables, shrinking batches and running pools give the network's logits within 1e-5, posts in order."""
    network, ids = make_network(hidden=32), make_ids(300)
    expected = logits_of(network, ids)
    for max_tokens in (1, 100, 4_096):
        logits = HalvingRunner(CpuEngine(network)).start(Tokens.of(ids), max_tokens)()
        assert logits == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 1.0


def test_batches_hold_every_post_once_by_length() -> None:
    """Batches cover every index once, longest first, and keep to the budget unless one post is above it."""
    lengths = [5, 50, 1, 7, 7, 30]
    batches = [batch.tolist() for batch in batches_by_length(np.array(lengths), 20)]
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    assert [lengths[i] for batch in batches for i in batch] == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or sum(lengths[i] for i in batch) <= 20 for batch in batches)


def test_out_of_memory_halves_batches_and_keeps_order() -> None:
    """A batch too large for the device is halved until it fits, counted, and the scores stay in order."""
    device = SmallDevice(max_posts=7)
    runner = HalvingRunner(device)
    ids = [[i] * (1 + i % 9) for i in range(40)]
    logits = runner.start(Tokens.of(ids))()
    assert logits.tolist() == [[i, 1 + i % 9] for i in range(40)]
    assert runner.n_halvings > 0
    assert max(device.sizes) <= 7


def test_later_batches_are_smaller_after_out_of_memory() -> None:
    """After a halving the budget stays smaller, so that the device does not fail on every batch."""
    runner = HalvingRunner(SmallDevice(max_posts=8))
    ids = Tokens.of([[1]] * 64)
    runner.start(ids, 32)()
    halvings = runner.n_halvings
    runner.start(ids, 32)()
    assert runner.n_halvings == halvings


def test_a_single_post_that_does_not_fit_is_an_error() -> None:
    """Where not even one post fits, the device's error is raised."""
    with pytest.raises(torch.OutOfMemoryError):
        HalvingRunner(SmallDevice(max_posts=0)).start(Tokens.of([[1], [2]]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_scores_equal_the_cpu_s(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Half precision on CUDA stays within 5e-3 of the CPU's probabilities, whatever the batches."""
    folder = make_bundle(tmp_path_factory.mktemp("gpu") / "tiny")
    texts = make_texts(5_000)
    expected = Bundle.load(folder, "cpu").score(texts).probabilities
    cuda = Bundle.load(folder, "cuda")
    assert cuda.score(texts).probabilities == pytest.approx(expected, abs=5e-3)
    assert cuda.score(texts, max_tokens_per_batch=512).probabilities == pytest.approx(expected, abs=5e-3)
