"""Driver words: the statistic by hand and against draws, and that copies and floods of one author count once."""

import random
import subprocess
import sys
from collections import Counter
from math import log, sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.drivers import (
    MAX_TEXT_CHARS,
    MAX_WORDS,
    MIN_AUTHORS,
    PRIOR_WORDS,
    Driver,
    driver_words,
    log_odds_z,
    words_of,
)
from monitor.quotes import Candidate

COMMON = tuple(f"{a}{b}" for a in ("lo", "mi", "tra", "ken", "vo") for b in ("na", "rel", "sto", "pin", "dam", "que"))


def chatter(n: int, seed: int, word: str = "", share: float = 0.0) -> list[Candidate]:
    """Posts of ten common words by as many authors, a share of them with `word` somewhere."""
    draws = random.Random(seed)
    posts = []
    for number in range(n):
        words = draws.sample(COMMON, 10)
        if draws.random() < share:
            words[draws.randrange(10)] = word
        posts.append(Candidate(" ".join(words), f"user {seed} {number}"))
    return posts


def found(dip: list[Candidate], before: list[Candidate]) -> list[str]:
    """The words alone."""
    return [one.word for one in driver_words(dip, before)]


def test_the_statistic_by_hand() -> None:
    """Monroe et al., equations 16, 18, 20, 22, worked out for one word."""
    inside, outside = Counter(refund=30, coffee=170), Counter(refund=10, coffee=290)
    prior = PRIOR_WORDS * 40 / 500
    delta = log((30 + prior) / (200 + PRIOR_WORDS - 30 - prior)) - log((10 + prior) / (300 + PRIOR_WORDS - 10 - prior))
    expected = delta / sqrt(1 / (30 + prior) + 1 / (10 + prior))
    assert log_odds_z(inside, outside, ["refund"]) == [pytest.approx(expected)]
    assert log_odds_z(outside, inside, ["refund"]) == [pytest.approx(-expected)]
    assert log_odds_z(Counter(a=5, b=5), Counter(a=50, b=50), ["a"]) == [pytest.approx(0.0)]


def test_what_is_said_in_the_dip_is_found() -> None:
    """A word that a third of the posts have now and none had before, and no other."""
    assert found(chatter(90, 1, "refund", 0.35), chatter(90, 2)) == ["refund"]
    assert found(chatter(90, 1), chatter(90, 2, "refund", 0.35)) == []


def test_chance_is_not_told() -> None:
    """Of sixty pairs of windows without any difference, hardly one has a word."""
    n_told = sum(bool(found(chatter(300, 2 * seed), chatter(300, 2 * seed + 1))) for seed in range(60))
    assert n_told <= 8


def test_without_days_before_there_is_nothing_to_compare() -> None:
    """A new brand, and posts without a word."""
    assert found(chatter(90, 1, "refund", 0.35), []) == []
    assert found([], chatter(90, 1)) == []
    assert found(chatter(90, 1), [Candidate("😡 123 https://example.com", None)]) == []


def test_an_author_counts_a_word_once() -> None:
    """Three hundred different posts by one author are one voice; by as many they are news."""
    flood = [Candidate(f"{post.text} scam", "flooder") for post in chatter(300, 3)]
    by_many = [Candidate(post.text, f"u{number}") for number, post in enumerate(flood)]
    assert found([*chatter(90, 1), *flood], chatter(90, 2)) == []
    assert "scam" in found([*chatter(90, 1), *by_many], chatter(90, 2))
    assert "scam" in found([*chatter(90, 1), *(Candidate(post.text, None) for post in flood)], chatter(90, 2))


def test_near_copies_count_once() -> None:
    """A post that goes round, with a mention before it, a link behind it or a word changed."""
    said = "they lost my parcel again and the hotline plays the same song for an hour scam"
    copies = [Candidate(f"RT @bob{n}: {said}", f"a{n}") for n in range(100)]
    copies += [Candidate(f"{said} https://t.example/{n}", f"b{n}") for n in range(100)]
    copies += [Candidate(said.replace("hotline", f"hotline{'x' * n}"), f"c{n}") for n in range(100)]
    assert found([*chatter(90, 1), *copies], chatter(90, 2)) == []


def test_words_are_few_and_in_order() -> None:
    """At most five, the most certain first; ties by the alphabet."""
    names = [f"word{letter}" for letter in "abcdefgh"]
    dip = [Candidate(f"{post.text} {' '.join(names)}", post.user_id) for post in chatter(90, 1)]
    words = driver_words(dip, chatter(90, 2))
    assert [one.word for one in words] == names[:MAX_WORDS]
    assert words == sorted(words, key=lambda one: (-one.z, one.word))
    assert isinstance(words[0], Driver)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't DELAY the Re-Fund!", ["don't", "delay", "the", "re-fund"]),
        ("see https://evil.example/refund www.evil.example @refund", ["see"]),
        ("#refund now &amp; then 24/7", ["refund", "now", "then"]),
        ("RT straße 東京 naïve ﬁne", ["strasse", "東京", "naïve", "fine"]),
        ("<!channel> *bold* `code` re\u200bfund", ["channel", "bold", "code", "re", "fund"]),
        ("😡 \x00 \ud800 1234", []),
    ],
)
def test_words_of_a_post(text: str, words: list[str]) -> None:
    """Case folded, without links, mentions, numbers and what is no letter."""
    assert words_of(text) == words


@given(st.lists(st.text(max_size=200), max_size=30), st.lists(st.text(max_size=200), max_size=30))
def test_any_posts_give_words_of_letters(dip: list[str], before: list[str]) -> None:
    """Whatever was written: never more than five, of 3 to 24 letters, each of three authors or more."""
    words = driver_words([Candidate(text, None) for text in dip], [Candidate(text, None) for text in before])
    assert len(words) <= MAX_WORDS
    for one in words:
        assert 3 <= len(one.word) <= 24
        assert all(sign.isalpha() or sign in "'\u2019-" for sign in one.word)
        assert sum(one.word in words_of(text) for text in dip) >= MIN_AUTHORS


def test_a_long_text_is_cut() -> None:
    """No more of it is read than of any other."""
    assert words_of("x " * MAX_TEXT_CHARS + "refund")[-1] == "x"


def test_every_process_finds_the_same() -> None:
    """Nothing depends on how this process salts its hashes."""
    code = (
        "from test_drivers import chatter, driver_words;"
        "print(driver_words(chatter(90, 1, 'refund', .4), chatter(90, 2, 'coffee', .4)))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert b"refund" in told[0]
