"""Text preparation and token ids."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import VOCABULARY, make_texts

from models.tokenizer import PLACEHOLDERS, TextEncoder, prepare_subword
from models.vocabulary import wordpiece


def make_encoder(max_tokens: int = 40) -> TextEncoder:
    """An encoder over the tests' small vocabulary."""
    return TextEncoder(wordpiece(VOCABULARY), "subword", max_tokens)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thx @Acme_Support &amp; co", "thx xxuser & co"),
        ("see https://t.co/aB1?x=1 and www.acme.com now", "see xxlink and xxlink now"),
        ("me@acme.com", "me@acme.com"),
        ("#BestPhoneEver #ff2026", "# Best Phone Ever # ff 2026"),
        ("sooooo goooood!!!!!", "soo good!!"),
        ("can't won't isnt DIDN'T don\u2019t", "can not will not is not DID not do not"),
        ("I'm sure it's what they've got", "I m sure it s what they ve got"),
        ("love it :) :( ;) <3 :/", "love it xxjoy xxsad xxwink xxlove xxbored"),
        ("at 10:30 (see 8) http://x.y", "at 10:30 (see 8) xxlink"),
        ("\U0001f60d\U0001f60d\U0001f60d\U0001f60d \U0001f621", "xxlove xxlove xxangry"),
        ("\U0001f44e\U0001f3fd \u2764\ufe0f \U0001f1e9\U0001f1ea \U0001f9ff", "xxbad xxlove xxemoji xxemoji"),
        ("well... ok", "well … ok"),
    ],
)
def test_preparation_of_social_text(text: str, expected: str) -> None:
    """Mentions, links, hashtags, long words, negation, emoticons and emoji come out as the vocabulary has them."""
    assert " ".join(prepare_subword(text).split()) == expected


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=200))
def test_every_string_has_ids(text: str) -> None:
    """Any str, surrogates and NUL included, gives 1 to `max_tokens` ids of the vocabulary."""
    (ids,) = make_encoder().encode([text])
    assert 1 <= len(ids) <= 40
    assert all(0 <= i < len(VOCABULARY) for i in ids)


def test_word_cache_equals_the_tokenizer() -> None:
    """Ids put together from words are those of the whole text, cold and warm, however texts are grouped."""
    encoder = make_encoder(max_tokens=10_000)
    strange = [
        "caf\u00e9 \u6f22\u5b57 good-bad!",
        "a\u00a0b\u2003c",
        "e\u0301 \u0301x",
        "it's...a\ufffd",
        "x" * 300 + " love",
    ]
    texts = [*make_texts(100), *strange]
    whole = [encoder.tokenizer.encode(prepare_subword(text), add_special_tokens=False).ids or [0] for text in texts]
    assert encoder.encode(texts) == whole
    assert [encoder.encode([text])[0] for text in texts] == whole


def test_long_posts_keep_both_ends() -> None:
    """A post over the limit keeps its first and last tokens, and is exactly as long as allowed."""
    (ids,) = make_encoder(max_tokens=10).encode(["love " * 30 + "hate " * 30])
    love, hate = VOCABULARY.index("love"), VOCABULARY.index("hate")
    assert ids == [love] * 5 + [hate] * 5


def test_long_words_do_not_stay_in_memory() -> None:
    """Words too long to come again are not cached: a stream of random strings costs no memory."""
    encoder = make_encoder()
    encoder.encode(["zq" * 300, "love"])
    assert set(encoder._ids_of_word) == {"love"}


def test_placeholders_are_single_tokens() -> None:
    """Every placeholder is one token of the vocabulary, so that no emoji falls apart into letters."""
    encoder = make_encoder()
    assert [len(ids) for ids in encoder.encode(PLACEHOLDERS)] == [1] * len(PLACEHOLDERS)


def test_vocabulary_without_unknown_is_refused() -> None:
    """A vocabulary that lacks [UNK] could not score every text."""
    with pytest.raises(ValueError, match="UNK"):
        TextEncoder(wordpiece(("a", "b")), "subword", 8)
