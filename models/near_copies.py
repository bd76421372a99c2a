"""Near-copies: posts that share most of their word runs. None may lie on both sides of a split."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

RUN_WORDS = 4  #: of a shingle (Broder 1997, "On the resemblance and containment of documents")
SHARED = 0.5  #: of the shorter post's runs that two near-copies have in common, and more
_NO_WORD = re.compile(r"@\w+|https?:\S+|www\.\S+|&\w+;")
_WORD = re.compile(r"\w+")


def word_runs(text: str) -> set[str]:
    """Runs of four words without case, mentions and links; a shorter text is one run."""
    words = _WORD.findall(_NO_WORD.sub(" ", text.lower()))
    last = max(1, len(words) - RUN_WORDS + 1)
    return {" ".join(words[i : i + RUN_WORDS]) for i in range(last)}


class NearCopies:
    """Knows the posts of one side of a split and finds near-copies of them among others."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._posts_with: dict[str, list[int]] = defaultdict(list)
        self._n_runs: list[int] = []
        for post, text in enumerate(texts):
            runs = word_runs(text)
            self._n_runs.append(len(runs))
            for run in runs:
                self._posts_with[run].append(post)

    def has(self, text: str) -> bool:
        """Whether `text` shares more than half of the runs of the shorter of the two with one of the posts."""
        runs = word_runs(text)
        shared = Counter(post for run in runs for post in self._posts_with.get(run, ()))
        return any(n > SHARED * min(len(runs), self._n_runs[post]) for post, n in shared.items())

    def without(self, texts: Sequence[str]) -> list[int]:
        """Indices of the texts that are no near-copies."""
        return [i for i, text in enumerate(texts) if not self.has(text)]
