"""The integral of a function's gradient along a straight line, by coordinate, in steps as short as the line needs."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

TOLERANCE = 0.005  # of the sum of all contributions: half of what `explain` promises
STEPS_TOLERANCE = 0.02  # of the misses of all steps, whichever way: their sum may be small by chance
FIRST_STEPS, MOST_GRADIENTS = 16, 4_096
SHORTEST = 2.0**-40  # of a step that is halved
WORST_SHARE = 0.8  # of all misses: the steps that have it are halved next
POINTS_AT_ONCE = 64
NODES = torch.tensor([0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5], dtype=torch.float64)  # Gauss-Legendre, on (0, 1)
WEIGHTS = torch.tensor([5 / 18, 8 / 18, 5 / 18], dtype=torch.float64)

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Integral:
    """What each token `added` on the way from zero (T of them), and how many `steps` it took.

    The function jumps, in `jumps` in all, where no short step comes near it. Of these a token's part is as large as its
    gradient there beside those of the others, with the sign of the jump.
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
    the same few words a hundred times can be rough without end.
    """
    line = Line(function, end)
    ends = torch.linspace(0, 1, FIRST_STEPS + 1, dtype=torch.float64)
    steps = Steps.along(line, ends.unfold(0, 2, 1), line.values(ends).unfold(0, 2, 1))
    n_gradients = len(steps) * len(NODES)
    while not (is_close := _is_close(steps)) and n_gradients < MOST_GRADIENTS:
        off = torch.where(steps.is_short, 0.0, steps.off.abs())
        worse = off.argsort(descending=True)
        n_worst = int((off[worse].cumsum(0) < WORST_SHARE * off.sum()).sum()) + 1
        steps = steps.select(worse[n_worst:]).beside(steps.select(worse[:n_worst]).halves(line))
        n_gradients += 2 * n_worst * len(NODES)
    is_jump = steps.is_short if is_close else _beyond(steps.off.abs(), TOLERANCE)
    added: list[float] = steps.shared_out(is_jump).added.sum(dim=0).tolist()
    return Integral(added, len(steps), float(steps.difference[is_jump].abs().sum()))


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

    def shared_out(self, which: Tensor) -> "Steps":
        """With what all tokens together add in these steps shared by the sizes of their gradients, of one sign."""
        sizes = self.added.abs() + torch.finfo(torch.float64).tiny
        shared = self.difference[:, None] * sizes / sizes.sum(dim=1, keepdim=True)
        return replace(self, added=torch.where(which[:, None], shared, self.added))

    def select(self, which: Tensor) -> "Steps":
        """The steps with these numbers."""
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
