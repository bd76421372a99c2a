"""Keys: one for each identity, and near each other for posts that come together."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.identity import content_hash_of, hash_of, key_of_id, key_of_message, key_of_row
from monitor.posts import Place
from monitor.store.texts import storable

MOMENT = datetime(2026, 11, 20, 9, 5, 30, tzinfo=UTC)
TEXTS = st.text(st.characters(), max_size=30)  # lone surrogates too


@pytest.mark.parametrize(
    ("id_", "order"),
    [
        ("1861234567890123456", "186123456789"),
        ("0193f2a4-77b1-7cc2-a5c6-d5a0f8b6d9f1", "0193f2a477b1"),  # UUID version 7: begins with the time
        ("https://social.example/@ann/113512345678901234", "113512345678"),
        ("tweet:1861234567890123456", "186123456789"),
        ("t1_kf3x2a1", "kf3x2a1"),
        ("102938475610293_987654321098765", "987654321098"),
        ("an id with spaces", "anidwithspac"),
        ("ends/", ""),
        ("😀\0\ud800é", ""),
        ("", ""),
    ],
)
def test_the_order_of_an_id(id_: str, order: str) -> None:
    """Twelve plain characters where its time or number lies."""
    assert key_of_id("posts", "acme", id_) == f"{order}-{hash_of('id', 'posts', 'acme', id_)}"


@given(TEXTS, TEXTS)
def test_keys_differ_where_ids_do_and_can_be_stored(one: str, other: str) -> None:
    """Whatever the order in front leaves out."""
    keys = [key_of_id("posts", "acme", id_) for id_ in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    assert [storable(key) for key in keys] == keys
    assert key_of_id("posts", one, other) != key_of_id("posts", one + "x", other)


def test_posts_that_come_together_have_keys_that_do() -> None:
    """Numbers of one length, offsets and minutes sort as they come, whatever brand and partition."""
    ids = [key_of_id("posts", f"brand {n % 3}", str(1_861_234_500_000_000_000 + n * 10**8)) for n in range(50)]
    offsets = [key_of_message("posts", Place("posts@X", n % 2, n * 7), b"%d" % n) for n in range(50)]
    minutes = [key_of_row("posts", "acme", MOMENT + timedelta(minutes=n), "u", f"text {n}", 0) for n in range(50)]
    for keys in (ids, offsets, minutes):
        assert keys == sorted(keys)


def test_every_part_of_an_identity_counts() -> None:
    """Each alone makes another post; bytes too, since offsets may be used anew."""
    place = Place("posts@X", 2, 7)
    messages = {
        key_of_message("posts", place, b"{}"),
        key_of_message("other", place, b"{}"),
        key_of_message("posts", Place("posts@Y", 2, 7), b"{}"),
        key_of_message("posts", Place("posts@X", 3, 7), b"{}"),
        key_of_message("posts", Place("posts@X", 2, 8), b"{}"),
        key_of_message("posts", place, b"{ }"),
    }
    rows = {
        key_of_row("posts", "acme", MOMENT, None, "Lovely", 0),
        key_of_row("other", "acme", MOMENT, None, "Lovely", 0),
        key_of_row("posts", "beta", MOMENT, None, "Lovely", 0),
        key_of_row("posts", "acme", MOMENT + timedelta(microseconds=1), None, "Lovely", 0),
        key_of_row("posts", "acme", MOMENT, "ann", "Lovely", 0),
        key_of_row("posts", "acme", MOMENT, None, "Lovely!", 0),
        key_of_row("posts", "acme", MOMENT, None, "Lovely", 1),
    }
    assert (len(messages), len(rows)) == (6, 7)
    assert content_hash_of(MOMENT, None, "a") != content_hash_of(MOMENT, "", "a")
