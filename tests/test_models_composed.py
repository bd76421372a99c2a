"""Generated posts: the same from a seed, of every label, and with frames and words of their own for development."""

import random
import re
from collections import Counter

import pytest
import yaml

from models.composed import FAMILY_WEIGHTS, LABELS, compose, expand, grammar, grammar_files, is_development
from models.corpora import check_sets, corpus_of, text_key
from models.protocol import composed_development

FRAMES = yaml.safe_load(grammar_files()["frames"].read_text(encoding="utf-8"))
EVERYDAY = yaml.safe_load(grammar_files()["everyday"].read_text(encoding="utf-8"))
WORDS = yaml.safe_load(grammar_files()["words"].read_text(encoding="utf-8"))


def test_the_same_seed_gives_the_same_posts() -> None:
    """Posts are a function of seed and part."""
    assert list(compose(50, 3)) == list(compose(50, 3))
    assert list(compose(50, 3)) != list(compose(50, 4))
    assert list(compose(50, 3)) != list(compose(50, 3, "development"))


def test_labels_come_in_equal_shares_and_posts_hardly_repeat() -> None:
    """A third of each label, and next to no text twice."""
    rows = list(compose(3_000, 1))
    assert all(900 < n < 1_100 for n in Counter(label for _, label in rows).values())
    assert len(corpus_of(rows)) > 2_850
    assert not any(re.search(r"[{}|\[\]]", text) for text, _ in rows)


def test_every_frame_ends_whatever_is_chosen() -> None:
    """Every frame of every family can be filled from every domain: no slot is unknown, no list is empty."""
    chance = random.Random(1)
    for part in ("training", "development"):
        rules = grammar(part)
        for frames in rules.frames.values():
            for frame in frames:
                for words in rules.words.values():
                    assert expand(frame, {**words, **rules.parts}, chance)


def test_an_unknown_slot_is_named() -> None:
    """A frame with a slot that no list fills is refused."""
    with pytest.raises(ValueError, match="nowhere"):
        expand("{nowhere}", {}, random.Random(1))


def test_frames_and_words_are_of_one_part_only() -> None:
    """What is held out for development is in no training post's frames and lists, and there is some of each family."""
    training, development = grammar("training"), grammar("development")
    for key, frames in development.frames.items():
        assert not set(frames) & set(training.frames[key])
        assert all(is_development(frame) for frame in frames)
    assert {family for family, _ in development.frames} == set(FAMILY_WEIGHTS) == set(FRAMES) - {"parts"}
    for name, words in WORDS["shared"].items():
        held_out = {word for word in words if is_development(word)}
        assert not held_out & set(training.words["shared"][name])
        if held_out:
            assert set(development.words["shared"][name]) == held_out


def test_all_words_are_texts() -> None:
    """YAML makes `no`, `on` and 5 something else than words unless they are quoted."""
    lists = [words for domain in WORDS.values() for words in domain.values()] + [
        frames for file in (FRAMES, EVERYDAY) for family in file.values() for frames in family.values()
    ]
    assert all(isinstance(word, str) for words in lists for word in words)
    assert set(FRAMES["plain"]) == set(LABELS)


def test_no_frame_is_passed_over() -> None:
    """Frames of both files are drawn from, in training or in development."""
    drawn = {
        frame for part in ("training", "development") for frames in grammar(part).frames.values() for frame in frames
    }
    families = [family for name, family in [*FRAMES.items(), *EVERYDAY.items()] if name != "parts"]
    assert drawn == {frame for by_label in families for frames in by_label.values() for frame in frames}


def test_no_development_post_is_a_test_post() -> None:
    """The development set has thousands of posts and shares none with the plain and hard ones."""
    corpus = composed_development()
    assert len(corpus) > 2_500
    assert not set(corpus.keys) & {key for posts in check_sets().values() for key in posts.keys}
    assert all(text_key(text) for text in corpus.texts)
