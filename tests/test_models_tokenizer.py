"""Text preparation and token ids."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import VOCABULARY, make_texts

from models import compiled_encoding
from models.corpora import DATA_VARIABLE, DEFAULT_DATA, load_csv, load_test
from models.manifest import TOKENIZER
from models.preparation import PLACEHOLDERS, prepare_subword
from models.tokenizer import TextEncoder
from models.vocabulary import wordpiece

if compiled_encoding.IS_AVAILABLE:
    from models import _encoding


def make_encoder(max_tokens: int = 40, *, in_c: bool = True) -> TextEncoder:
    """An encoder over the tests' small vocabulary."""
    return TextEncoder(wordpiece(VOCABULARY), "subword", max_tokens, in_c=in_c)


ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get(DATA_VARIABLE, ROOT / DEFAULT_DATA))
BOTH_WAYS = (True, False)
compiled = pytest.mark.skipif(not compiled_encoding.IS_AVAILABLE, reason="needs the compiled encoder: a C compiler")
ENCODERS = [make_encoder(max_tokens=10_000, in_c=in_c) for in_c in BOTH_WAYS]


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


@pytest.mark.parametrize("in_c", BOTH_WAYS)
def test_word_cache_equals_the_tokenizer(*, in_c: bool) -> None:
    """Ids put together from words are those of the whole text, cold and warm, however texts are grouped."""
    encoder = make_encoder(max_tokens=10_000, in_c=in_c)
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


FRAGMENTS = [
    *"`':()!.,#@&;/^_=<3 \t\n\x00\x1c\x85\xa0\u2003\u2028\u200b\u200d\ufe0f\ud800aDxX",
    *"\u00e9\u00df\u0130\ufb01\u2019\u00b4\u2026",
    *("&amp;", "amp;", "&lt;", "&lt", "&nbsp;", "&#10;", "&#96;", "&grave;", "&ampamp;lt;", "&#x110000;"),
    *("@bob", "@http", "@caf\u00e9", "http", "https:", "http://a.b/c", "www.", "t.co/x", "#NiceDay", "# "),
    *(
        "\U0001f602",
        "\U0001f602\U0001f602",
        "\u2764\ufe0f",
        "\U0001f1e9\U0001f1ea",
        "\U0001f1e9",
        "xxlove",
        "xxuser",
        "xx",
    ),
    *(" :)", ":(", "</3", "xD", "T_T", "-_-", "..", "...", "!!!", "ooo", "can", "don`t", "n't", "cant", "it's", "D:"),
    *("  ", " a ", " xxlove", "\U0001f602 ", "@bob ", " @bob ", "http://a.b "),
    *(
        "HTTPS://x",
        "@",
        "@https ",
        "WWW.",
        "x-D",
        "XD",
        "wasnt",
        "nt,",
        "$$$$",
        "1,000",
        "~~~~",
        "aaaA",
        "love",
        "hate",
    ),
]


def encode_whole(encoder: TextEncoder, text: str) -> list[int]:
    """Ids of a text without any cache, word by word taken nowhere: preparation, then the tokenizers library."""
    prepared = " ".join(prepare_subword(text).split())
    return encoder.tokenizer.encode(prepared, add_special_tokens=False).ids or [0]


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
def test_word_by_word_equals_the_whole_text(text: str) -> None:
    """Entities, marks, feelings and white space of every kind side by side: the ids of words are those of the text."""
    for encoder in ENCODERS:
        assert encoder.encode([text])[0] == encode_whole(encoder, text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=60))
def test_any_text_word_by_word_equals_the_whole_text(text: str) -> None:
    """The same for arbitrary characters."""
    for encoder in ENCODERS:
        assert encoder.encode([text])[0] == encode_whole(encoder, text)


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="aAxXdDnNtThHpPwWsS.,-!?@:/&'*0_ ", max_size=40))
def test_marks_within_words_equal_the_whole_text(text: str) -> None:
    """The same for letters and marks of which patterns are made."""
    for encoder in ENCODERS:
        assert encoder.encode([text])[0] == encode_whole(encoder, text)


def test_words_end_at_white_space_of_every_kind() -> None:
    """Both ways cut a text where `str.split` does, at any character."""
    texts = [f"love{chr(i)}hate" for i in range(0x3100) if i < 0xD800]
    in_c, in_python = (encoder.encode(texts) for encoder in ENCODERS)
    assert in_c == in_python


@pytest.fixture(scope="module")
def shipped() -> TextEncoder:
    """The shipped bundle's."""
    return TextEncoder.load(ROOT / "models" / "bundles" / "social-gru" / TOKENIZER, "subword", 10_000)


def test_real_posts_word_by_word_equal_the_whole_texts(shipped: TextEncoder) -> None:
    """The shipped vocabulary gives the hundred plain and the hundred hard posts the ids of the whole texts."""
    texts = [text for name in ("plain_posts", "hard_posts") for text in load_csv(ROOT / "tests" / f"{name}.csv").texts]
    in_python = TextEncoder(shipped.tokenizer, "subword", 10_000, in_c=False)
    expected = [encode_whole(shipped, text) for text in texts]
    assert shipped.encode(texts) == expected
    assert in_python.encode(texts) == expected


@pytest.mark.skipif(not DATA.exists(), reason=f"needs the labelled tweets ({DATA_VARIABLE})")
@pytest.mark.long
def test_twenty_thousand_posts_have_the_same_ids_both_ways(shipped: TextEncoder) -> None:
    """C and Python agree on every id, in one call and in many."""
    texts = load_test(DATA).texts[:20_000]
    expected = TextEncoder(shipped.tokenizer, "subword", 10_000, in_c=False).encode(texts)
    assert shipped.encode(texts) == expected
    few = [ids for at in range(0, 2_100, 7) for ids in shipped.encode(texts[at : at + 7])]
    assert few == expected[:2_100]


def test_feelings_of_neighbours_are_cut_like_those_of_one_word() -> None:
    """Of three feelings in a run the third goes, also where they are words of their own or the cache knows each."""
    encoder = make_encoder()
    love = VOCABULARY.index("xxlove")
    for text in (
        "\u2764\u2764\u2764",
        "\u2764 \u2764\u2764",
        "\u2764 \u2764 \u2764 \u2764",
        "\u2764 \u200b \u2764 \u2764",
    ):
        assert encoder.encode([text, text]) == [[love, love]] * 2
    assert len(encoder.encode(["\u2764 love \u2764 love \u2764"])[0]) == 5


def test_threads_share_an_encoder() -> None:
    """Threads that fill and empty the caches at the same time get the ids that one alone gets."""
    encoder, texts = make_encoder(), [f"{text} @bob \u2764 w{i}" for i, text in enumerate(make_texts(200))]
    expected = make_encoder().encode(texts)

    def encode(seed: int) -> bool:
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        encoder.forget()
        return encoder.encode([texts[i] for i in order]) == [expected[i] for i in order]

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(encode, range(24)))


def test_caches_are_bounded() -> None:
    """Once the caches hold as many words as they may, they begin anew."""
    encoder = make_encoder(in_c=False)
    encoder.max_cached_words = 20
    for i in range(20):
        encoder.encode([f"w{i}a w{i}b"])
        assert len(encoder._cache) <= 24


def test_names_and_links_do_not_stay_in_memory() -> None:
    """Mentions and links hardly come again: they are one token each and stay out of the caches."""
    encoder = make_encoder(in_c=False)
    assert [len(ids) for ids in encoder.encode(["@acme_7", "https://t.co/aB1?x=1"])] == [1, 1]
    assert not encoder._cache.words
    assert not encoder._cache.marked


@compiled
def test_what_c_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its words take as much room as they may, it begins anew, and ids stay what they were."""
    encoder = make_encoder()
    assert encoder._compiled
    monkeypatch.setattr(compiled_encoding, "MAX_WORD_BYTES", 2_000)
    for i in range(200):
        assert encoder.encode([f"love w{i}&a \u00e9{i}"]) == make_encoder(in_c=False).encode([f"love w{i}&a \u00e9{i}"])
        assert encoder._compiled.n_bytes() <= 2_200


@compiled
def test_what_c_cannot_take_is_refused() -> None:
    """Wrong sizes and an encoder without marks are errors, and never memory of something else."""
    encoder, numbers = _encoding.make(8, 8, True, 1), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="marks"):
        _encoding.encode(encoder, ["love"], numbers, numbers.copy())
    with pytest.raises(ValueError, match="one number per text"):
        _encoding.encode(encoder, ["love", "hate"], numbers, numbers.copy())
    with pytest.raises(ValueError, match="one id"):
        _encoding.add(encoder, 1, "love", b"", 0)
    with pytest.raises(ValueError, match="max_tokens"):
        _encoding.make(0, 8, True, 1)
    with pytest.raises(TypeError):
        make_encoder().encode([None])  # type: ignore[list-item]


@pytest.mark.parametrize("in_c", BOTH_WAYS)
def test_long_posts_keep_both_ends(*, in_c: bool) -> None:
    """A post over the limit keeps its first and last tokens, and is exactly as long as allowed."""
    (ids,) = make_encoder(max_tokens=11, in_c=in_c).encode(["love " * 30 + "hate " * 30])
    love, hate = VOCABULARY.index("love"), VOCABULARY.index("hate")
    assert ids == [love] * 5 + [hate] * 6


def test_long_words_do_not_stay_in_memory() -> None:
    """Words too long to come again are not cached: a stream of random strings costs no memory."""
    encoder = make_encoder(in_c=False)
    encoder.encode(["zq" * 300, "\u00e9\u00e0" * 300, "love"])
    assert set(encoder._cache.words) == {"love"}
    assert not encoder._cache.pieces


def test_placeholders_are_single_tokens() -> None:
    """Every placeholder is one token of the vocabulary, so that no emoji falls apart into letters."""
    encoder = make_encoder()
    assert [len(ids) for ids in encoder.encode(PLACEHOLDERS)] == [1] * len(PLACEHOLDERS)


def test_vocabulary_without_unknown_is_refused() -> None:
    """A vocabulary that lacks [UNK] could not score every text."""
    with pytest.raises(ValueError, match="UNK"):
        TextEncoder(wordpiece(("a", "b")), "subword", 8)
