"""The words of a text by the rules of the Penn Treebank, as `nltk.word_tokenize` has them for one sentence.

The rules are those of NLTK's NLTKWordTokenizer (Apache-2.0, Copyright NLTK Project; after Robert MacIntyre's sed
script), held equal to it by a test. Sentences are not told apart, as NLTK does first with trained data: only the last
full stop of a text stands alone.
"""

import re

_STARTING_QUOTES = (
    (re.compile("([«“‘„]|[`]+)"), r" \1 "),  # noqa: RUF001 - these quotation marks are what is looked for
    (re.compile(r"^\""), r"``"),
    (re.compile(r"(``)"), r" \1 "),
    (re.compile(r"([ \(\[{<])(\"|\'{2})"), r"\1 `` "),
    (re.compile(r"(?<!\w)(\')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)"), r"\1 "),
)
_PUNCTUATION = (
    (re.compile(r"""([^\.])(\.)([\]\)}>"'»”’ ]*+)\s*$"""), r"\1 \2 \3 "),  # noqa: RUF001
    (re.compile(r"([:,])([^\d])"), r" \1 \2"),
    (re.compile(r"([:,])$"), r" \1 "),
    (re.compile(r"\.{2,}"), r" \g<0> "),
    (re.compile(r"[;@#$%&]"), r" \g<0> "),
    (re.compile(r"[\u2012-\u2015]"), r" \g<0> "),
    (re.compile(r"""([^\.])(\.)([\]\)}>"']*+)\s*$"""), r"\1 \2\3 "),
    (re.compile(r"[?!]"), r" \g<0> "),
    (re.compile(r"([^'])' "), r"\1 ' "),
    (re.compile(r"[*]"), r" \g<0> "),
    (re.compile(r"[\]\[\(\)\{\}\<\>]"), r" \g<0> "),
    (re.compile(r"--"), r" -- "),
)
_ENDING_QUOTES = (
    (re.compile("([»”’])"), r" \1 "),  # noqa: RUF001
    (re.compile(r"''"), " '' "),
    (re.compile(r'"'), " '' "),
    (re.compile(r"\s+"), " "),
    (re.compile(r"([^' ])('s|'m|'d|') "), r"\1 \2 "),
    (re.compile(r"([^' ])('ll|'re|'ve|n't) "), r"\1 \2 "),
)
_CONTRACTIONS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(can)(not)\b",
        r"\b(d)('ye)\b",
        r"\b(gim)(me)\b",
        r"\b(gon)(na)\b",
        r"\b(got)(ta)\b",
        r"\b(lem)(me)\b",
        r"\b(more)('n)\b",
        r"\b(wan)(na)(?=\s)",
        r" ('t)(is)\b",
        r" ('t)(was)\b",
    )
)


def treebank_words(text: str) -> list[str]:
    """The words of a text that is in lower case already; quotation marks become two grave accents or apostrophes."""
    for pattern, replacement in (*_STARTING_QUOTES, *_PUNCTUATION):
        text = pattern.sub(replacement, text)
    text = f" {text} "
    for pattern, replacement in _ENDING_QUOTES:
        text = pattern.sub(replacement, text)
    for pattern in _CONTRACTIONS:
        text = pattern.sub(r" \1 \2 ", text)
    return text.split()
