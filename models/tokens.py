"""The tokens of many posts in one array, as the encoder gives them and the engines read them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """n posts: the tokens of post i are `ids[starts[i]:][:lengths[i]]`; every length is at least 1."""

    ids: Int32Array  # of all posts
    starts: Int64Array  # (n,)
    lengths: Int64Array  # (n,)

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, posts: Sequence[Sequence[int]]) -> "Tokens":
        """From a list of ids per post."""
        ids = np.array([i for post in posts for i in post], np.int32)
        return cls.end_to_end(ids, np.array([len(post) for post in posts], np.int64))

    @classmethod
    def end_to_end(cls, ids: Int32Array, lengths: Int64Array) -> "Tokens":
        """Posts that follow each other in `ids`."""
        return cls(ids, np.cumsum(lengths) - lengths, lengths)

    def take(self, rows: Int64Array) -> "Tokens":
        """Some of the posts; the ids are shared."""
        return Tokens(self.ids, self.starts[rows], self.lengths[rows])

    def longest_first(self) -> Int64Array:
        """Row numbers by length, descending; posts of one length keep their order."""
        return np.argsort(-self.lengths, kind="stable")

    def steps(self) -> tuple[list[Int64Array], list[Int64Array]]:
        """For every step t where in `ids` the tokens (n_t,) lie that each direction reads; longest posts first."""
        n_active = np.searchsorted(-self.lengths, -np.arange(self.lengths[0]), side="left").tolist()  # length > t
        ends = self.starts + self.lengths - 1
        forward = [self.starts[:n] + t for t, n in enumerate(n_active)]
        return forward, [ends[:n] - t for t, n in enumerate(n_active)]
