"""The integral of a function's gradient along a straight line, by coordinate, in steps as short as the line needs."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

TOLERANCE = 0.005  # of the sum of all contributions: half of what `explain` promises
STEPS_TOLERANCE = 0.02  # of the misses of all steps, whichever way: their sum may be small by chance
FIRST_STEPS, MOST_GRADIENTS = 16, 4_096
SHORTEST = 2.0**-40  # of a step that is halved
MOST_MISSED = 0.5  # of the sizes of what tokens add in a step: beyond it nothing of what overshoots is kept
WORST_SHARE = 0.8  # of all misses: the steps that have it are halved next
POINTS_AT_ONCE = 64
NODES = torch.tensor([0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5], dtype=torch.float64)  # Gauss-Legendre, on (0, 1)
WEIGHTS = torch.tensor([5 / 18, 8 / 18, 5 / 18], dtype=torch.float64)

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Integral:
    """What each token `added` on the way from zero (T of them), and how many `steps` it took.

    `jumps` is what had to be shared out: where no short step comes near the function, what the gradients miss of the
    difference, or, where they go far beyond it, all of it. A token's part is as large as its gradient there beside
    those of the others.
    """

    added: list[float]
    steps: int
    jumps: float


def integrate(function: Function, end: Tensor) -> Integral:
    """Integrated gradients (equation 1 of Sundararajan et al. 2017, arXiv:1703.01365) from zero to `end` (T, E).

    `function` maps points (N, T, E), in fp64, to values (N,). The contributions add up to the difference of its values
    at both ends within `TOLERANCE`.

    The log-odds of a long post can change by 0.4 within a millionth of the line, most of all near its beginning, where
    the network reads next to nothing; elsewhere long steps do. What all tokens add in a step is known, the difference
    of the values at its ends: the steps that miss it most are halved until all of them together miss little. A text of
    the same few words a hundred times can be rough without end. Tokens that jump against each other at one place go
    unseen, since only their sum is known.
    """
    line = Line(function, end)
    ends = torch.linspace(0, 1, FIRST_STEPS + 1, dtype=torch.float64)
    steps = Steps.along(line, ends.unfold(0, 2, 1), line.values(ends).unfold(0, 2, 1))
    n_gradients = len(steps) * len(NODES)
    while not (is_close := _is_close(steps)) and n_gradients < MOST_GRADIENTS:
        off = torch.where(steps.is_short, 0.0, steps.off.abs())
        worse = off.argsort(descending=True)
        n_worst = int((off[worse].cumsum(0) < WORST_SHARE * off.sum()).sum()) + 1
        n_worst = min(n_worst, -(-(MOST_GRADIENTS - n_gradients) // (2 * len(NODES))))
        steps = steps.select(worse[n_worst:]).beside(steps.select(worse[:n_worst]).halves(line))
        n_gradients += 2 * n_worst * len(NODES)
    is_off = steps.is_short if is_close else _beyond(steps.off.abs(), TOLERANCE)
    mended, jumps = steps.select(is_off).shared_out()
    added: list[float] = (steps.added[~is_off].sum(dim=0) + mended.sum(dim=0)).tolist()
    return Integral(added, len(steps), jumps)


class Line:
    """Straight, from zero, at place 0, to `end` (T, E), at place 1."""

    def __init__(self, function: Function, end: Tensor) -> None:
        self._function, self._end = function, end

    def values(self, places: Tensor) -> Tensor:
        """Of the function at the places (n,): (n,)."""
        parts = torch.split(places, POINTS_AT_ONCE)
        with torch.no_grad():
            return torch.cat([self._function(part[:, None, None] * self._end) for part in parts])

    def slopes(self, places: Tensor) -> Tensor:
        """What each token adds to the function's slope along the line, its part of `end` times the gradient: (n, T)."""
        found = []
        for part in torch.split(places, POINTS_AT_ONCE):
            points = (part[:, None, None] * self._end).requires_grad_()
            (gradient,) = torch.autograd.grad(self._function(points).sum(), points)
            found.append((gradient * self._end).sum(dim=2))
        return torch.cat(found)


@dataclass(frozen=True)
class Steps:
    """Parts of a line, (n,): where they begin and end, the values there, and what each token adds in them (n, T)."""

    left: Tensor
    right: Tensor
    before: Tensor
    after: Tensor
    added: Tensor

    @classmethod
    def along(cls, line: Line, edges: Tensor, values: Tensor) -> "Steps":
        """From edges (n, 2) and the values there; by Gauss and Legendre's rule with three points in each step."""
        left, right = edges.unbind(dim=1)
        width = (right - left)[:, None]
        places = left[:, None] + width * NODES  # (n, 3)
        slopes = line.slopes(places.flatten()).view(*places.shape, -1)  # (n, 3, T)
        added = width * (WEIGHTS[:, None] * slopes).sum(dim=1)
        return cls(left, right, values[:, 0], values[:, 1], added)

    @property
    def is_short(self) -> Tensor:
        """Whether a step is not halved any more, (n,)."""
        return self.right - self.left <= SHORTEST

    @property
    def difference(self) -> Tensor:
        """What all tokens together add in a step, (n,)."""
        return self.after - self.before

    @property
    def off(self) -> Tensor:
        """By how much `added` misses that, (n,)."""
        return self.added.sum(dim=1) - self.difference

    def halves(self, line: Line) -> "Steps":
        """Each step as two."""
        middle = (self.left + self.right) / 2
        at_middle = line.values(middle)
        edges = torch.stack([self.left, middle, middle, self.right], dim=1).view(-1, 2)
        values = torch.stack([self.before, at_middle, at_middle, self.after], dim=1).view(-1, 2)
        return Steps.along(line, edges, values)

    def __len__(self) -> int:
        return len(self.left)

    def shared_out(self) -> tuple[Tensor, float]:
        """`added` made to add up to the difference, by the sizes of the gradients, and how much that took in all."""
        sizes = self.added.abs() + torch.finfo(torch.float64).tiny
        is_beside = self.off.abs() > MOST_MISSED * sizes.sum(dim=1)  # where a gradient happens to be a cliff's
        is_lost = is_beside & (self.added.sum(dim=1).abs() > 2 * self.difference.abs())
        kept = torch.where(is_lost[:, None], 0.0, self.added)
        missing = torch.where(is_lost, self.difference, -self.off)
        shared = missing[:, None] * sizes / sizes.sum(dim=1, keepdim=True)
        return kept + shared, float(missing.abs().sum())

    def select(self, which: Tensor) -> "Steps":
        """The steps with these numbers, or of this mask."""
        return Steps(*(getattr(self, one.name)[which] for one in fields(self)))

    def beside(self, others: "Steps") -> "Steps":
        """These and others."""
        return Steps(*(torch.cat([getattr(self, one.name), getattr(others, one.name)]) for one in fields(self)))


def _is_close(steps: Steps) -> bool:
    """Whether the steps come near enough, but for those that are not halved any more."""
    off = torch.where(steps.is_short, 0.0, steps.off)
    return bool(off.abs().sum() <= STEPS_TOLERANCE and off.sum().abs() <= TOLERANCE)


def _beyond(values: Tensor, sum_of_rest: float) -> Tensor:
    """A mask (n,) of the largest of the values (n,), without which the rest is at most that in sum."""
    order = values.argsort()
    mask = torch.empty_like(values, dtype=torch.bool)
    mask[order] = values[order].cumsum(0) > sum_of_rest
    return mask
