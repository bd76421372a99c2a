"""Explanations: what each word adds to a score, by integrated gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import WORDS, make_bundle, make_texts, one_thread
from torch import Tensor

from models import path_integral
from models.bundle import Bundle, find_bundle
from models.explain import explain
from models.path_integral import integrate

REVIEW = """We had booked two nights for our anniversary and arrived late after a long drive. The lady at the desk was
kind, but the room smelt of smoke, the shower dripped all night and nobody came when we rang. Breakfast, to be fair, was
lovely: fresh rolls, good coffee. Still, for that price I would not go back, and I told them so when we left."""


@pytest.mark.parametrize("classes", [("negative", "positive"), ("negative", "neutral", "positive")], ids=len)
@pytest.mark.parametrize("text", ["not good", "love it :) @me", " ".join(WORDS * 4), "💔"])
def test_contributions_add_up(tmp_path: Path, classes: tuple[str, ...], text: str) -> None:
    """Base and contributions make the log-odds of the pos_prob that the bundle itself gives, to 0.01."""
    bundle = make_bundle(tmp_path / "tiny", classes)
    with one_thread():
        found = explain(bundle, text)
    (pos_prob,) = Bundle.load(bundle, "cpu").score([text]).pos_prob
    assert found.base + sum(value for _, value in found.words) == pytest.approx(found.log_odds, abs=0.01)
    assert found.pos_prob == pytest.approx(pos_prob, abs=1e-3)


ODD_TEXTS = (
    "\u200b",
    "@a @b",
    "https://a.example/b",
    "\x00",
    "...",
    "a",
    "NOT NOT NOT",
    "sooooo baaaad",
    "\ud800",
    "東京",
)


@pytest.mark.long
def test_contributions_add_up_whatever_is_written(tmp_path: Path) -> None:
    """Texts of all lengths, and odd ones: base and contributions are the log-odds of the pos_prob told."""
    bundle = make_bundle(tmp_path / "tiny")
    worst = 0.0
    with one_thread():
        for text in [*make_texts(40, seed=5), *ODD_TEXTS]:
            found = explain(bundle, text)
            log_odds = np.log(found.pos_prob / (1 - found.pos_prob))
            worst = max(worst, abs(found.base + sum(value for _, value in found.words) - log_odds))
    assert worst <= 0.01


def test_the_shipped_bundle_explains_what_it_serves() -> None:
    """Its words add up too, and to the pos_prob that posts get from it; a plain word of either side has its sign."""
    bundle = find_bundle("social-gru", Path())
    texts = ["not what I paid for, but the staff is lovely", "I love it", "awful, just awful 😡", "opens at nine @acme"]
    served = Bundle.load(bundle, "cpu").score(texts).pos_prob
    explained = [explain(bundle, text) for text in texts]
    for found, pos_prob in zip(explained, served, strict=True):
        total = found.base + sum(value for _, value in found.words)
        assert total == pytest.approx(np.log(pos_prob / (1 - pos_prob)), abs=0.01)
    assert dict(explained[1].words)["love"] > 1
    assert dict(explained[2].words)["awful"] < -1


def test_the_shipped_bundle_explains_a_review() -> None:
    """The path of a long post is steep in places; its contributions add up all the same, and none is a jump's."""
    with one_thread():
        found = explain(find_bundle("social-gru", Path()), REVIEW)
    assert found.base + sum(value for _, value in found.words) == pytest.approx(found.log_odds, abs=0.01)
    assert found.steps > path_integral.FIRST_STEPS
    assert found.jumps == 0.0
    assert dict(found.words)["lovely:"] > 1 > 0 > dict(found.words)["nobody"]


def test_a_text_that_no_steps_are_short_enough_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words a hundred times: what is left after the last gradient is shared out, said so, and adds up."""
    monkeypatch.setattr(path_integral, "MOST_GRADIENTS", 100)
    with one_thread():
        found = explain(find_bundle("social-gru", Path()), "good bad ugly " * 100)
    assert found.base + sum(value for _, value in found.words) == pytest.approx(found.log_odds, abs=0.01)
    assert found.jumps > 0.01


def steep(points: Tensor) -> Tensor:
    """Of two tokens: the first adds 2, a millionth of the way at 0.3 of it; the second adds its square, 1."""
    return torch.tanh(1e6 * (points[:, 0, 0] - 0.3)) + points[:, 1, 0] ** 2


def jumping(points: Tensor) -> Tensor:
    """Of two tokens: the first adds 1 as it is, and both, with no gradient, a jump of 0.5."""
    return points[:, 0, 0] + 0.5 * (points[:, 1, 0] > 1 / 3).double()


def test_a_steep_place_is_found_and_integrated() -> None:
    """By steps shorter there than anywhere else, and by few of them."""
    found = integrate(steep, torch.ones(2, 1, dtype=torch.float64))
    assert found.added == pytest.approx([2.0, 1.0], abs=0.01)
    assert found.jumps == 0.0
    assert found.steps < 150


def test_a_jump_is_shared_by_the_sizes_of_the_gradients() -> None:
    """All of it goes to the token that has a gradient there: nothing is known of the other."""
    found = integrate(jumping, torch.ones(2, 1, dtype=torch.float64))
    assert found.added == pytest.approx([1.5, 0.0], abs=0.01)
    assert found.jumps == pytest.approx(0.5, abs=0.01)


def rough(points: Tensor) -> Tensor:
    """Of two tokens: the first adds 5, the second takes 4, and both are read with noise that has no gradient."""
    noise = torch.frac(torch.sin(torch.floor(1e9 * points[:, 0, 0])) * 43_758.5)
    return 5 * points[:, 0, 0] - 4 * points[:, 1, 0] + 0.01 * noise


def test_words_that_push_against_each_other_do_so_where_the_path_is_rough() -> None:
    """Only what the gradients miss is shared out."""
    found = integrate(rough, torch.ones(2, 1, dtype=torch.float64))
    assert found.added == pytest.approx([5.0, -4.0], abs=0.05)
    assert found.jumps > 0.01
    assert found.steps <= path_integral.MOST_GRADIENTS / 3 + 1


def test_gradients_of_a_curve_are_integrated_as_by_hand() -> None:
    """x² y along the diagonal: 2/3 and 1/3 of the difference."""
    found = integrate(lambda points: points[:, 0, 0] ** 2 * points[:, 1, 0], torch.ones(2, 1, dtype=torch.float64))
    assert found.added == pytest.approx([2 / 3, 1 / 3], abs=1e-6)
    assert found.steps == path_integral.FIRST_STEPS
