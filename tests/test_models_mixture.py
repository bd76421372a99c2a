"""Mixtures: which posts make a stage's epochs, where a teacher has to be asked about them."""

from dataclasses import replace

import pytest

from models.mixture import EncodedCorpus, Mixture
from models.recipe import Recipe, Stage

N_POSTS = {"uci": 200, "sentiment140": 200, "composed": 50}


def mixture_of(fresh_epochs: int, teacher_share: float = 1.0) -> Mixture:
    """Five epochs of two taught sources, of one of which nobody trusts the labels, and an untaught one."""
    stage = Stage("one", 5, 0.01, {"uci": 30, "sentiment140": 20, "composed": 10})
    plan = Recipe("", "", (), "subword", (stage,), batch_posts=7, emoji_share=0.5, untaught=("composed",))
    plan = replace(plan, fresh_epochs=fresh_epochs, teacher_share=teacher_share, untrusted=("sentiment140",))
    encoded = {name: EncodedCorpus.of([[1]] * n, [i % 3 for i in range(n)]) for name, n in N_POSTS.items()}
    vocabulary = {name: number for number, name in enumerate(("xxlove", "xxsad", "xxemoji"), start=2)}
    return Mixture(plan, 0, encoded, vocabulary)


def drawn_in(mixture: Mixture, source: int) -> list[list[int]]:
    """The posts of a source in each epoch, in their order."""
    batches = [mixture.batches(epoch) for epoch in range(mixture.stage.epochs)]
    return [[post for batch in epoch for of, post in batch if of == source] for epoch in batches]


@pytest.mark.parametrize("fresh", [1, 2, 4, 7])
def test_later_epochs_go_through_the_posts_of_the_fresh_ones(fresh: int) -> None:
    """In an order of their own, and no others are asked about; more fresh epochs than there are is as if all were."""
    mixture = mixture_of(fresh)
    for source, name in enumerate(("uci", "sentiment140")):
        epochs = drawn_in(mixture, source)
        for epoch, posts in enumerate(epochs):
            assert set(posts) == set(epochs[epoch % fresh])
            assert epoch < fresh or posts != epochs[epoch % fresh]
        assert len({frozenset(posts) for posts in epochs}) == min(fresh, 5)
        assert mixture.drawn(name) == {post for posts in epochs for post in posts}


@pytest.mark.parametrize(("fresh", "teacher_share", "source"), [(2, 1.0, 2), (2, 0.0, 0), (0, 1.0, 0)])
def test_where_nobody_has_to_be_asked_every_epoch_draws_other_posts(
    fresh: int, teacher_share: float, source: int
) -> None:
    """An untaught source, a recipe without a teacher, one that has its teacher asked about all."""
    epochs = drawn_in(mixture_of(fresh, teacher_share), source)
    assert len({post for posts in epochs for post in posts}) == sum(map(len, epochs))


def test_repeated_epochs_have_emoji_of_their_own() -> None:
    """Which batches get emoji is drawn anew, too."""
    mixture = mixture_of(1)

    def with_emoji(epoch: int) -> list[bool]:
        batches = mixture.batches(epoch)
        return [mixture.tensors(batch, epoch, number).ids.shape[1] > 1 for number, batch in enumerate(batches)]

    found = [with_emoji(epoch) for epoch in range(5)]
    assert all(0 < sum(epoch) < len(epoch) for epoch in found)
    assert len(set(map(tuple, found))) == 5
