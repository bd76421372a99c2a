"""Hints: what a network learns of its teachers' states beside what they say."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import RECIPE, one_thread
from torch.nn.functional import cosine_similarity

from models.hints import Hints
from models.mixture import EncodedCorpus, Mixture
from models.networks import GruClassifier
from models.recipe import Recipe, RecipeError, Stage, read_recipe
from models.shapes import GruShape
from models.trainer import Trainer

N_TEACHERS, WIDTH, N_TOKENS = 2, 6, 20


def test_a_distance_is_that_of_directions() -> None:
    """0 for a state that is mapped to the teachers' own direction, 2 for the opposite one, 0 where there is no hint."""
    hints = Hints(WIDTH, N_TEACHERS, WIDTH)
    torch.nn.init.zeros_(hints.map.bias)
    hints.map.weight.data.copy_(torch.cat([torch.eye(WIDTH)] * N_TEACHERS))
    states = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1))
    taught = torch.stack([3 * states, 0.5 * states], dim=1)
    taught[1] *= -1
    taught[2, 1] *= -1
    taught[3] = 0
    assert hints(states, taught).tolist() == [pytest.approx(far, abs=1e-6) for far in (0.0, 2.0, 1.0, 0.0)]


def test_a_narrower_teacher_ends_in_zeros() -> None:
    """Which leave its direction as it is: a state that is mapped to it is at no distance."""
    hints = Hints(WIDTH, 2, WIDTH)
    torch.nn.init.zeros_(hints.map.bias)
    narrow = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))
    hints.map.weight.data.copy_(torch.cat([torch.eye(WIDTH), narrow]))
    states = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1))
    taught = torch.stack([2 * states, 3 * states @ narrow], dim=1)
    assert hints(states, taught).tolist() == [pytest.approx(0.0, abs=1e-6)] * 4


@pytest.fixture
def plan(tmp_path: Path) -> Recipe:
    """Two stages: taught and untaught posts, then untaught ones alone."""
    path = tmp_path / "pupil.yaml"
    path.write_text(RECIPE.split("stages:")[0] + "stages: [{name: x, epochs: 1, learning_rate: 1, posts: {a: 1}}]")
    both = Stage("both", 12, 0.02, {"semeval": 64, "composed": 8}, patience=0)
    alone = Stage("alone", 1, 0.01, {"composed": 8})
    return replace(read_recipe(path), stages=(both, alone), teacher_share=0.5, hint_weight=1.0, untaught=("composed",))


@pytest.fixture
def sources() -> Mapping[str, EncodedCorpus]:
    """Posts of four tokens; what the teachers' states are follows from the first of them."""
    generator = np.random.default_rng(4)
    ids = generator.integers(1, N_TOKENS, (64, 4))
    directions = generator.normal(size=(N_TOKENS, N_TEACHERS, WIDTH))
    taught = EncodedCorpus.of(ids.tolist(), generator.integers(0, 3, 64).tolist())
    said = np.full((64, 3), 1 / 3, np.float32)
    taught = replace(taught, taught=said, hints=directions[ids[:, 0]].astype(np.float16))
    return {"semeval": taught, "composed": EncodedCorpus.of([[1, 2, 3, 4]] * 8, [0, 2] * 4)}


def new_trainer(plan: Recipe, sources: Mapping[str, EncodedCorpus]) -> Trainer:
    """Of the same weights each time."""
    torch.manual_seed(3)
    network = GruClassifier(GruShape(N_TOKENS, 8, 8, 3), dropout=0.1)
    mixtures = [Mixture(plan, i, sources, {}) for i in range(len(plan.stages))]
    return Trainer(network, plan, mixtures, EncodedCorpus.of([[1, 2, 3]] * 6, [0, 1, 2] * 2))


def test_batches_have_the_hints_of_their_posts(plan: Recipe, sources: Mapping[str, EncodedCorpus]) -> None:
    """Zeros where a source has none, also where no source of a stage has any; without teachers there is no width."""
    hints = Mixture(plan, 0, sources, {}).tensors([(0, 5), (1, 2)], 0, 0).hints
    assert hints.shape == (2, N_TEACHERS, WIDTH)
    assert np.array_equal(hints[0].numpy(), sources["semeval"].hints[5])  # type: ignore[index]
    assert not hints[1].any()
    assert Mixture(plan, 1, sources, {}).tensors([(0, 2)], 0, 0).hints.shape == (1, N_TEACHERS, WIDTH)
    alone = {"composed": sources["composed"]}
    assert Mixture(plan, 1, alone, {}).tensors([(0, 2)], 0, 0).hints.shape == (1, 0, 0)


def test_the_network_comes_nearer_to_its_teachers(
    plan: Recipe, sources: Mapping[str, EncodedCorpus], tmp_path: Path
) -> None:
    """By the map that it learns with; one without hints has no map."""
    corpus = sources["semeval"]

    def nearness(trainer: Trainer) -> float:
        assert trainer.hints is not None
        states = trainer.network.eval().states(torch.tensor(corpus.ids), torch.full((64,), 4))
        mapped = trainer.hints.map(states).unflatten(1, (N_TEACHERS, WIDTH))
        return float(cosine_similarity(mapped, torch.tensor(np.array(corpus.hints, np.float32)), dim=2).mean().detach())

    with one_thread():
        trainer = new_trainer(plan, sources)
        before = nearness(trainer)
        trainer.run(tmp_path / "checkpoint", "this")
    assert abs(before) < 0.2
    assert nearness(trainer) > 0.5
    assert new_trainer(plan, {"semeval": replace(corpus, hints=None), "composed": sources["composed"]}).hints is None


def test_the_distance_counts_by_its_weight(plan: Recipe, sources: Mapping[str, EncodedCorpus]) -> None:
    """Over the nominal size of a batch, as the rest of the loss does; the network feels it, not the map alone."""
    losses, felt = {}, {}
    for weight in (0.0, 2.0):
        trainer = new_trainer(replace(plan, hint_weight=weight), sources)
        trainer.network.eval()
        batch = trainer.mixture.tensors([(0, 1), (0, 4), (1, 2)], 0, 0)
        loss = trainer._loss(batch)
        torch.autograd.backward(loss)
        losses[weight], felt[weight] = float(loss.detach()), trainer.network.state_dict(keep_vars=True)
    assert trainer.hints is not None
    states = trainer.network.states(batch.ids, torch.full((3,), 4))
    distance = float(trainer.hints(states, batch.hints).sum().detach()) / plan.batch_posts
    assert distance > 0
    assert losses[2.0] - losses[0.0] == pytest.approx(2 * distance, rel=1e-4)
    gradients = [felt[weight]["gru.weight_ih_l0"].grad for weight in (0.0, 2.0)]
    assert not torch.allclose(*gradients)


def test_an_interrupted_training_with_hints_ends_as_if_it_had_not_been(
    plan: Recipe, sources: Mapping[str, EncodedCorpus], tmp_path: Path
) -> None:
    """The map and its part of the optimizer are in the checkpoint."""
    with one_thread():
        through = new_trainer(plan, sources)
        through.run(tmp_path / "through", "this")
        for _ in range(3):  # a batch each
            trainer = new_trainer(plan, sources)
            trainer._on_interrupt(2, None)
            with pytest.raises(KeyboardInterrupt):
                trainer.run(tmp_path / "broken", "this")
        resumed = new_trainer(plan, sources)
        resumed.run(tmp_path / "broken", "this")
    found = resumed.tensors()
    assert any(name.startswith("hints.") for name in found)
    for name, tensor in through.tensors().items():
        assert torch.equal(found[name], tensor), name


def test_hints_need_teachers(tmp_path: Path) -> None:
    """Whose states they are."""
    path = tmp_path / "pupil.yaml"
    path.write_text(RECIPE + "hint_weight: 1.0\n")
    with pytest.raises(RecipeError, match="it needs a teacher_share"):
        read_recipe(path)
    path.write_text(RECIPE + "hint_weight: -1.0\nteacher_share: 0.5\n")
    with pytest.raises(RecipeError, match=r"hint_weight -1\.0"):
        read_recipe(path)
