"""Training posts of classes of unequal size made equal: by leaving out, by repeating, by both, or by new texts."""

from collections.abc import Sequence

import numpy as np

from models.measures import IntArray

SWAPPED_SHARE = 0.1  # of a text's words change places in an augmented one, and as many are left out


def balanced_rows(labels: IntArray, balancing: str, seed: int) -> IntArray:
    """Rows to train on, in order, perhaps with repeats: every class as often as `balancing` says.

    `under`: as the smallest class; `over` and `augment`: as the largest; `hybrid`: as their mean size; `none`: all rows
    as they are. A class that is to grow has all of its rows and then some of them again.
    """
    if balancing == "none":
        return np.arange(len(labels))
    generator = np.random.default_rng([seed, 7])
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = [len(group) for group in groups]
    target = {"under": min(sizes), "hybrid": round(sum(sizes) / len(sizes))}.get(balancing, max(sizes))
    rows = []
    for group in groups:
        order = generator.permutation(group)
        rounds = -(-target // len(group))
        rows.append(np.concatenate([generator.permutation(group) if i else order for i in range(rounds)])[:target])
    return np.sort(np.concatenate(rows), kind="stable")


def augmented(texts: Sequence[str], rows: IntArray, seed: int) -> list[str]:
    """The texts of `rows`; where a row comes again, with a tenth of its words swapped and a tenth left out.

    Two of the four operations of "easy data augmentation" (Wei and Zou 2019, arXiv:1901.11196): those that need no
    dictionary.
    """
    seen: set[int] = set()
    found = []
    for place, row in enumerate(rows.tolist()):
        found.append(_varied(texts[row], np.random.default_rng([seed, 8, place])) if row in seen else texts[row])
        seen.add(row)
    return found


def _varied(text: str, generator: np.random.Generator) -> str:
    words = text.split()
    if len(words) < 2:
        return text
    for _ in range(max(1, round(SWAPPED_SHARE * len(words)))):
        i, j = generator.choice(len(words), 2, replace=False)
        words[i], words[j] = words[j], words[i]
    kept = [word for word in words if generator.random() >= SWAPPED_SHARE]
    return " ".join(kept or words)
