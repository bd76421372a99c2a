"""Words that stand out in the posts of a dip: log-odds ratios with an informative Dirichlet prior. Pure.

Monroe, Colaresi, Quinn 2008, "Fightin' Words: Lexical Feature Selection and Evaluation for Identifying the Content of
Political Conflict", Political Analysis 16(4), section 3.4. No model and no list of stop words: a word that is as
frequent before the dip as in it says nothing, whatever it means.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from math import erfc, log, sqrt
from typing import NamedTuple
from zlib import crc32

from monitor.quotes import Candidate

MAX_POSTS = 5_000  #: read for one message, the days before included
MAX_TEXT_CHARS = 600  #: of a post; a tweet has 280
MAX_WORDS = 5  #: of one message
MIN_AUTHORS = 3  #: who must have written a word in the dip before it is shown: one person's words are quotes, not news
MAX_FALSE_SHARE = 0.1  #: expected share of chance among the words that are shown (Benjamini and Hochberg 1995)
PRIOR_WORDS = 500  #: what the prior, both windows together, counts as: shrinks ratios of rare words

_MAX_WORD_CHARS = 24
_SHINGLE_WORDS = 3
_SKETCH = 4  #: smallest shingle hashes that are looked up
_MOST_COMPARED = 8  #: posts that one hash leads to
_MIN_OVERLAP = 0.7  #: shared shingles over the shorter post's, from which two posts are near-copies (as in quotes.py)
#: links, mentions and entities, which are no words, or (as the group) a word
_TOKEN = re.compile(r"(?:https?://|ftp://|www\.|mailto:)\S+|@\w+|&#?\w{1,8};|([^\W\d_]+(?:['\u2019-][^\W\d_]+)*)")
_REPOST = "rt"


class Driver(NamedTuple):
    """A word, and by how many standard errors it is more frequent in the dip."""

    word: str
    z: float


def words_of(text: str) -> list[str]:
    """The words of a post in order, case folded; links, mentions and numbers are none."""
    folded = unicodedata.normalize("NFKC", text[:MAX_TEXT_CHARS]).casefold()
    return [word for word in _TOKEN.findall(folded) if word and word != _REPOST]


def driver_words(dip: Iterable[Candidate], before: Iterable[Candidate]) -> list[Driver]:
    """At most MAX_WORDS words that are more frequent in `dip`, the most certain first; none without posts `before`.

    Equal posts in equal order give equal words. Of near-copies one counts, and each word once for an author.
    """
    inside, outside = _count(dip), _count(before)
    if not outside:
        return []
    frequent = [word for word, n_authors in inside.items() if n_authors >= MIN_AUTHORS and _is_shown(word)]
    scores = log_odds_z(inside, outside, frequent)
    found = [Driver(word, round(z, 9)) for word, z in zip(frequent, scores, strict=True)]
    return _beyond_chance(sorted(found, key=lambda one: (-one.z, one.word)))[:MAX_WORDS]


def log_odds_z(inside: Counter[str], outside: Counter[str], words: Sequence[str]) -> list[float]:
    """z of each word's log-odds ratio (equations 16, 18, 20, 22 of the paper) with a prior of PRIOR_WORDS.

    With counts y of n words inside and outside, and a the word's share of the prior:

        delta = log((y_i + a) / (n_i + PRIOR_WORDS - y_i - a)) - the same outside,
        variance = 1 / (y_i + a) + 1 / (y_o + a),   z = delta / sqrt(variance)
    """
    n_inside, n_outside = inside.total(), outside.total()
    scores = []
    for word in words:
        prior = PRIOR_WORDS * (inside[word] + outside[word]) / (n_inside + n_outside)
        one, other = inside[word] + prior, outside[word] + prior
        delta = log(one / (n_inside + PRIOR_WORDS - one)) - log(other / (n_outside + PRIOR_WORDS - other))
        scores.append(delta / sqrt(1 / one + 1 / other))
    return scores


def _beyond_chance(ranked: list[Driver]) -> list[Driver]:
    """The first k of `ranked`, k the largest with p_k <= MAX_FALSE_SHARE * k / n: thousands of words are looked at."""
    limits = (MAX_FALSE_SHARE * place / len(ranked) for place in range(1, len(ranked) + 1))
    passed = [place for place, (one, limit) in enumerate(zip(ranked, limits, strict=True), 1) if _p(one.z) <= limit]
    return ranked[: passed[-1]] if passed else []


def _p(z: float) -> float:
    """One-sided."""
    return erfc(z / sqrt(2)) / 2


def _is_shown(word: str) -> bool:
    return 3 <= len(word) <= _MAX_WORD_CHARS


def _count(posts: Iterable[Candidate]) -> Counter[str]:
    """Authors who wrote each word; a post without an author has one of its own."""
    counts: Counter[str] = Counter()
    written: dict[str, set[str]] = {}
    copies = _Copies()
    for post in posts:
        words = words_of(post.text)
        if not words or copies.has_seen(words):
            continue
        new = set(words)
        if post.user_id is not None:
            known = written.setdefault(post.user_id, set())
            new -= known
            known |= new
        counts.update(new)
    return counts


class _Copies:
    """Near-copies among posts, found by the smallest hashes of their word triples (Broder 1997, "resemblance").

    Few hashes of each post are looked up and few posts compared, so that the time grows with the posts alone.
    """

    def __init__(self) -> None:
        self._seen: list[frozenset[int]] = []
        self._by_hash: dict[int, list[int]] = {}

    def has_seen(self, words: Sequence[str]) -> bool:
        """Whether a post like this one came before; if not, it is remembered."""
        shingles = _shingles(words)
        sketch = sorted(shingles)[:_SKETCH]
        near = dict.fromkeys(place for one in sketch for place in self._by_hash.get(one, ()))
        if any(_are_near_copies(shingles, self._seen[place]) for place in near):
            return True
        for one in sketch:
            places = self._by_hash.setdefault(one, [])
            if len(places) < _MOST_COMPARED:
                places.append(len(self._seen))
        self._seen.append(shingles)
        return False


def _shingles(words: Sequence[str]) -> frozenset[int]:
    """Hashes of every three words in a row, of all words where there are fewer. The same in every process."""
    if len(words) < _SHINGLE_WORDS:
        return frozenset([crc32(" ".join(words).encode())])
    return frozenset(map(crc32, map(str.encode, map(" ".join, zip(words, words[1:], words[2:], strict=False)))))


def _are_near_copies(one: frozenset[int], other: frozenset[int]) -> bool:
    return len(one & other) >= _MIN_OVERLAP * min(len(one), len(other))
