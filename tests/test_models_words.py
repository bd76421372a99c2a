"""Preparations by word against the rules they are named after, and the encoder and vocabulary of whole words."""

import json
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.encoders import load_encoder
from models.manifest import TOKENIZER, BundleError, Manifest
from models.preparation import PREPARATIONS
from models.word_preparation import REMOVALS, WORD_PREPARATIONS, WordCutter
from models.word_tokenizer import END, MAX_READ_CHARS, PADDING, START, UNKNOWN, WordEncoder, WordSettings
from models.word_vocabulary import learn_words, word_level

HOSTILE = st.text(
    st.one_of(
        st.sampled_from(
            "aB'\"`.,;:!?()[]{}<>/@#$&*-_ \n\t1\u0663\u03a3\u0130\u2014\u2026\xab\xbb\u201c\u201d\u2018\u2019\ud800\x00"
        ),
        st.characters(codec=None),
    ),
    max_size=60,
)
PIECES = ("<br />", "''", "``", "--", "...", "can't", "I'll", "gonna", "'tis", "Cannot", "U.S.", "$3.88", '"x"', "d'ye",
          "http://t.co/a?b", "@you", "www.x.org", "it's", "<b class='x'>", "a", "3,50", "wanna", "more'n")  # fmt: skip
SENTENCES = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=8).map(" ".join)

GOLDEN = {
    "words": [
        ("Don't stop, it's 5 o'clock!", ["don", "t", "stop", "it", "s", "5", "o", "clock"]),
        ("a_b CAFÉ <br />x", ["a_b", "café", "br", "x"]),
        ("", []),
        ("?!", []),
    ],
    "basic_english": [
        ("Don't stop, it's great.", ["don", "'", "t", "stop", ",", "it", "'", "s", "great", "."]),
        ('He said "no"; go<br />home: (now)', ["he", "said", "no", "go", "home", "(", "now", ")"]),
        ("e-mail @me #tag", ["e-mail", "@me", "#tag"]),
    ],
    "nltk_words": [
        ("Good muffins cost $3.88\nin New York.", ["good", "muffins", "cost", "$", "3.88", "in", "new", "york", "."]),
        ("I can't, she'll go.", ["i", "ca", "n't", ",", "she", "'ll", "go", "."]),
        ('"Cannot," he said...', ["``", "can", "not", ",", "''", "he", "said", "..."]),
        ("(Mr. Smith's) gonna", ["(", "mr.", "smith", "'s", ")", "gon", "na"]),
    ],
    "letters": [
        ("Don't pay 5 euros, CAFÉ!", ["don", "t", "pay", "euros", "café"]),
        ("a1b_c", ["a", "b", "c"]),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "expected"), [(name, *case) for name, cases in GOLDEN.items() for case in cases]
)
def test_golden_words(name: str, text: str, expected: list[str]) -> None:
    """What each preparation makes of plain sentences, written down by hand from its rules."""
    assert WordCutter(name).cut(text) == expected
    assert PREPARATIONS[name](text).split() == expected


def test_every_preparation_has_golden_words() -> None:
    """The closed list is covered."""
    assert set(GOLDEN) == set(WORD_PREPARATIONS)
    assert set(PREPARATIONS) == {"subword", *WORD_PREPARATIONS}


def plain_words(text: str) -> list[str]:
    """`\\b\\w+\\b` over the whole text."""
    return re.findall(r"\b\w+\b", text.lower())


def plain_letters(text: str) -> list[str]:
    """Runs of letters of the whole text."""
    return re.findall(r"[^\W\d_]+", text.lower())


def torchtext_words(text: str) -> list[str]:
    """The patterns and replacements of torchtext's `basic_english`, one after the other over the whole text."""
    rules = {
        r"\'": " '  ", r"\"": "", r"\.": " . ", r"<br \/>": " ", r",": " , ", r"\(": " ( ", r"\)": " ) ",
        r"\!": " ! ", r"\?": " ? ", r"\;": " ", r"\:": " ", r"\s+": " ",
    }  # fmt: skip
    text = text.lower()
    for pattern, replacement in rules.items():
        text = re.sub(pattern, replacement, text)
    return text.split()


REFERENCES: dict[str, Callable[[str], list[str]]] = {
    "words": plain_words,
    "basic_english": torchtext_words,
    "letters": plain_letters,
}


@pytest.mark.parametrize("name", REFERENCES)
@settings(max_examples=200, deadline=None)
@given(st.one_of(HOSTILE, SENTENCES))
@example('x <"br />y "<BR />')
@example("ΑΣ ΣΑ Σ")
def test_words_equal_the_rules_over_the_whole_text(name: str, text: str) -> None:
    """Done word by word, as the encoder remembers it, a preparation gives what its rules give for the text."""
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    assert WordCutter(name).cut(text) == REFERENCES[name](text)


@settings(max_examples=150, deadline=None)
@given(st.one_of(HOSTILE, SENTENCES))
def test_treebank_words_equal_nltk(text: str) -> None:
    """The Treebank rules are NLTK's own, for texts in lower case."""
    nltk = pytest.importorskip("nltk.tokenize", reason="NLTK is the oracle here")
    text = re.sub("[\ud800-\udfff]", "\ufffd", text).lower()
    assert WordCutter("nltk_words").cut(text) == nltk.NLTKWordTokenizer().tokenize(text)


@pytest.mark.parametrize("name", WORD_PREPARATIONS)
@settings(max_examples=100, deadline=None)
@given(text=HOSTILE, remove=st.sets(st.sampled_from(sorted(REMOVALS))))
def test_any_text_gives_words_that_can_be_stored(name: str, text: str, remove: set[str]) -> None:
    """Any str gives words without white space, in UTF-8, the same when they come as one prepared text."""
    words = WordCutter(name, remove).cut(text)
    assert all(word and len(word.split()) == 1 for word in words)
    " ".join(words).encode()


LONG = (
    "'", '"', "<", "a.", ". ", ".'", "@", "http://", "`", " ", "<a", "a'", "x ", "--", '("', "\ud800", "can not ",
)  # fmt: skip


@pytest.mark.parametrize("unit", LONG)
@pytest.mark.parametrize("name", WORD_PREPARATIONS)
def test_long_texts_take_no_longer_than_they_are(name: str, unit: str) -> None:
    """What makes an expression start again and again: 100,000 characters of it would take minutes, not a moment."""
    WordCutter(name, REMOVALS).cut((unit * 100_000)[:100_000])
    WordCutter(name).cut((unit * 100_000)[:100_000])


CLEANED = {
    "html": ("so <br />good <b class='x'>x</b>", ["so", "good", "x"]),
    "links": ("see http://t.co/a?b=1 and WWW.x.org/y now", ["see", "and", "now"]),
    "mentions": ("@you and me@home", ["and", "me@home"]),
    "digits": ("3 of 4 b2b", ["of", "b", "b"]),
    "punctuation": ("well, a_b: yes!", ["well", "a", "b", "yes"]),
    "single_letters": ("a plan I b had", ["plan", "had"]),
}


@pytest.mark.parametrize("name", REMOVALS)
def test_removals(name: str) -> None:
    """What is removed leaves a space, and nothing else goes with it."""
    text, expected = CLEANED[name]
    assert WordCutter("basic_english", [name]).cut(text) == expected


def test_all_removals_work_together() -> None:
    """As the reviews recipe wants it: tags before anything, single letters after punctuation."""
    remove = ("single_letters", "punctuation", "digits", "html")
    assert WordCutter("letters", remove).cut("It's<br />a 10/10 film. I'd go") == ["it", "film", "go"]


VOCABULARY = (PADDING, UNKNOWN, "good", "bad", "not", "phone", "not good")


def make_encoder(max_tokens: int = 48, vocabulary: tuple[str, ...] = VOCABULARY, **options: object) -> WordEncoder:
    """Over seven tokens."""
    chosen = WordSettings(**options)  # type: ignore[arg-type]  # from the tests below
    return WordEncoder(word_level(vocabulary), "words", max_tokens, chosen)


def test_ids_are_those_of_the_vocabulary() -> None:
    """Known words by their id, others unknown, and a text without words is one unknown token; warm or cold."""
    encoder = make_encoder()
    texts = ["Not good, GOOD phone", "zebra good", "", "?!"]
    for _ in range(2):
        assert encoder.encode(texts) == [[4, 2, 2, 5], [1, 2], [1], [1]]
    assert encoder.encode_tokens(texts).lengths.tolist() == [4, 2, 1, 1]
    assert encoder.n_tokens == len(VOCABULARY)


def test_the_library_reads_a_prepared_text_alike() -> None:
    """`tokenizer.json` alone gives the ids of the words that `prepare` leaves."""
    encoder = make_encoder()
    assert encoder.tokenizer.encode(encoder.prepare("Not GOOD, phone!")).ids == [4, 2, 5]


@pytest.mark.parametrize(("keep", "expected"), [("first", [4, 4, 2]), ("last", [2, 3, 3]), ("ends", [4, 3, 3])])
def test_long_texts_keep_the_chosen_end(keep: str, expected: list[int]) -> None:
    """Exactly `max_tokens` of a longer text; one that fits is whole."""
    encoder = make_encoder(3, keep=keep)
    assert encoder.encode(["not not good bad bad", "not good bad"]) == [expected, [4, 2, 3]]
    assert [place for place, _ in encoder.token_words("not not good bad bad")] == [0, 1, 2]


@pytest.mark.parametrize("keep", ["first", "last", "ends"])
def test_endless_texts_are_read_at_their_chosen_end(keep: str) -> None:
    """A text far over the limit costs no more than one at it."""
    text = "good " + "x" * 3 * MAX_READ_CHARS + " bad"
    first, last = {"first": (2, 1), "last": (1, 3), "ends": (2, 3)}[keep]
    assert make_encoder(2, keep=keep).encode([text]) == [[first, last]]


def test_marks_stand_around_every_text_and_count() -> None:
    """A vocabulary with [SOS] and [EOS] gets them around empty and long texts too, within `max_tokens`."""
    vocabulary = (PADDING, UNKNOWN, START, END, "good", "bad")
    encoder = make_encoder(4, vocabulary)
    assert encoder.encode(["good", "", "good bad good"]) == [[2, 4, 3], [2, 1, 3], [2, 4, 5, 3]]
    assert [word for _, word in encoder.token_words("good bad good")] == [START, "good", "bad", END]
    with pytest.raises(ValueError, match="no room"):
        make_encoder(2, vocabulary)


def test_terms_are_words_then_neighbours() -> None:
    """With n-grams of two, ids are those of words and pairs in the vocabulary; what is in none of it is left out."""
    encoder = make_encoder(ngrams=2)
    assert encoder.encode(["not good zebra", "zebra"]) == [[4, 2, 6], [1]]
    assert make_encoder(1, ngrams=2).encode(["not good"]) == [[4]]


def test_words_of_tokens_are_those_encoded() -> None:
    """One token a word, in order, also where words hang together."""
    encoder = make_encoder()
    for text in ("Not-good, zebra", "", "it's"):
        words = [word for _, word in encoder.token_words(text)]
        assert len(words) == len(encoder.encode([text])[0])
    assert [word for _, word in encoder.token_words("Not-good, zebra")] == ["not", "good", "zebra"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(HOSTILE, SENTENCES), max_size=4))
def test_the_cache_changes_nothing(texts: list[str]) -> None:
    """A warm encoder gives what a cold one gives, for every preparation."""
    for name in WORD_PREPARATIONS:
        words = learn_words(texts, name, max_size=12)
        warm = WordEncoder(word_level(words), name, 10)
        warm.encode(texts)
        assert warm.encode(texts) == [WordEncoder(word_level(words), name, 10).encode([text])[0] for text in texts]


def test_caches_are_bounded() -> None:
    """Once the cache holds as many words as it may, it begins anew; long words never enter."""
    encoder = make_encoder()
    encoder.max_cached_words = 20
    for i in range(40):
        encoder.encode([f"w{i}a w{i}b", "zq" * 300])
        assert len(encoder._cache) <= 24
    assert not any(len(word) > 40 for word in encoder._cache)


def test_threads_share_an_encoder() -> None:
    """Threads that fill and empty the cache at the same time get the ids that one alone gets."""
    encoder, texts = make_encoder(), [f"good bad w{i} not phone" for i in range(200)]
    expected = make_encoder().encode(texts)

    def encode(seed: int) -> bool:
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        encoder.forget()
        return encoder.encode([texts[i] for i in order]) == [expected[i] for i in order]

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(encode, range(24)))


TEXTS = ["b b a", "a c b", "d a"]


def test_the_vocabulary_is_the_most_frequent_words() -> None:
    """By count, then by alphabet, whatever the order of the texts; at most `max_size` with the special tokens."""
    expected = [PADDING, UNKNOWN, "a", "b", "c"]
    assert learn_words(TEXTS, "words", max_size=5) == expected
    assert learn_words(reversed(TEXTS), "words", max_size=5) == expected
    assert learn_words(TEXTS, "words", max_size=50, min_count=2) == expected[:4]
    assert learn_words(TEXTS, "words", max_size=5, marks=True) == [PADDING, UNKNOWN, START, END, "a"]
    pairs = learn_words(TEXTS, "words", WordSettings(ngrams=2), max_size=50, padding=False)
    assert pairs == [UNKNOWN, "a", "b", "a c", "b a", "b b", "c", "c b", "d", "d a"]


def load(folder: Path, tree: object, **encoding: object) -> WordEncoder:
    """A word encoder as a bundle's folder holds it."""
    (folder / TOKENIZER).write_text(json.dumps(tree), encoding="utf-8")
    manifest = Manifest("x", ("negative", "positive"), ("en",), "words", 8, {}, {}, encoding=encoding)
    loaded = load_encoder(folder, manifest)
    assert isinstance(loaded, WordEncoder)
    return loaded


def test_an_encoder_comes_back_from_its_file(tmp_path: Path) -> None:
    """Vocabulary and settings of a bundle give the same ids."""
    tree = json.loads(word_level(VOCABULARY).to_str())
    encoder = load(tmp_path, tree, keep="last", remove=["mentions"], ngrams=1)
    assert encoder.encode(["@phone not good"]) == [[4, 2]]


BROKEN: dict[str, Callable[[dict[str, dict[str, object]]], object]] = {
    "a subword model": lambda tree: tree["model"].update(type="WordPiece"),
    "a normalizer": lambda tree: tree.update(normalizer={"type": "Lowercase"}),
    "another split": lambda tree: tree.update(pre_tokenizer={"type": "Whitespace"}),
    "padding": lambda tree: tree.update(padding={"strategy": {"Fixed": 10**12}}),
    "no unknown token": lambda tree: tree["model"].update(vocab={"a": 0}),
    "a gap": lambda tree: tree["model"].update(vocab={UNKNOWN: 0, "a": 2}),
    "an id twice": lambda tree: tree["model"].update(vocab={UNKNOWN: 0, "a": 0}),
    "a fraction": lambda tree: tree["model"].update(vocab={UNKNOWN: 0, "a": 1.0}),
    "a list": lambda tree: tree["model"].update(vocab=[UNKNOWN]),
}


@pytest.mark.parametrize("edit", BROKEN.values(), ids=BROKEN)
def test_hostile_vocabularies_are_refused(
    tmp_path: Path, edit: Callable[[dict[str, dict[str, object]]], object]
) -> None:
    """Only a plain list of words, numbered 0, 1, 2, ..."""
    tree = json.loads(word_level(VOCABULARY).to_str())
    edit(tree)
    with pytest.raises(BundleError, match=TOKENIZER):
        load(tmp_path, tree)


SETTINGS: tuple[dict[str, object], ...] = (
    {"keep": "middle"}, {"keep": []}, {"remove": "html"}, {"remove": ["verbs"]}, {"remove": 7}, {"remove": [[]]},
    {"ngrams": 0}, {"ngrams": 99}, {"ngrams": True}, {"ngrams": "2"}, {"code": "x"},
)  # fmt: skip


@pytest.mark.parametrize("encoding", SETTINGS, ids=str)
def test_hostile_settings_are_refused(tmp_path: Path, encoding: dict[str, object]) -> None:
    """A manifest chooses from closed lists and nothing else."""
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load(tmp_path, json.loads(word_level(VOCABULARY).to_str()), **encoding)
