"""mean_pos corrected by hand-labelled posts of the brand: prediction-powered inference. Pure: no clock, no SQL.

With n labelled posts (labels y of 0, 0.5 or 1, scores f) and a day of N posts with mean score m and variance s²:

    mean_pos_corrected = mean(y) + slope * (m - mean(f))

(Angelopoulos et al. 2023, arXiv:2301.09633, with the power tuning of PPI++, arXiv:2311.01453, section 6). PPI++ tunes
the slope to cov(y, f) / var(f) / (1 + n/N), which is best where the day is one more sample of what was labelled. A
chart is looked at for the days that are not, and there the last factor would draw every day towards the labelled
posts; so it is left out: the slope is tuned for the error of the model alone. Cochran, Sampling Techniques (3rd ed.,
section 7.4) has the same estimator under the name of linear regression.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from monitor.aggregates import MILLION, Z95

MIN_LABELS = 50  #: of one brand; fewer say too little about the error of the model
#: standard deviation, from day to day, of what the model's error on a day's posts differs from its error on all posts:
#: measured on the development posts by tests/correction_coverage.py; labels of a brand are too few to tell its own
DAY_DRIFT = 0.03


class LabelSums(NamedTuple):
    """What is kept of `n` labelled posts: sums in millionths, each addend rounded. No text, no order."""

    n: int
    label_micro: int  # of y
    score_micro: int  # of f
    labelsq_micro: int  # of y squared
    scoresq_micro: int  # of f squared
    product_micro: int  # of y times f


class Corrected(NamedTuple):
    """A day's corrected mean and its 95% interval, all within [0, 1]."""

    mean: float
    low: float
    high: float


def sums_of(pairs: Iterable[tuple[float, float]]) -> LabelSums:
    """Sums of (label, pos_prob) pairs; a label is 0, 0.5 or 1."""
    given = list(pairs)
    addends = ((y, f, y * y, f * f, y * f) for y, f in given)
    columns = zip(*([round(value * MILLION) for value in row] for row in addends), strict=True)
    return LabelSums(len(given), *map(sum, columns))


@dataclass(frozen=True)
class Correction:
    """What labelled posts say about the scores of one brand and model."""

    n: int
    mean_label: float
    mean_score: float
    score_variance: float
    slope: float  # in [0, 1], as PPI++ clips it
    residual_variance: float  # of y - slope * f

    @classmethod
    def of(cls, sums: LabelSums) -> "Correction":
        """From the sums of at least three posts."""
        n = sums.n
        y, f, yy, ff, yf = (value / MILLION / n for value in sums[1:])
        label_variance, score_variance = max(0.0, yy - y * y), max(0.0, ff - f * f)
        covariance = yf - y * f
        slope = min(1.0, max(0.0, covariance / score_variance)) if score_variance > 0 else 0.0
        residual = max(0.0, label_variance - 2 * slope * covariance + slope**2 * score_variance)
        return cls(n, y, f, score_variance, slope, residual * n / (n - 2))  # two means, or mean and slope, were fitted

    def estimate(self, mean: float) -> float:
        """The corrected mean of a day whose mean score is `mean`, not yet cut to [0, 1]."""
        return self.mean_label + self.slope * (mean - self.mean_score)

    def label_error(self, mean: float) -> float:
        """Standard error by which so few labels tell the error of the model, on a day whose mean score is `mean`.

        The second term is that of the slope (Cochran, equation 7.36): it grows with the distance to what was labelled.
        """
        distance = (mean - self.mean_score) ** 2 / self.score_variance if self.score_variance > 0 else 0.0
        return sqrt(self.residual_variance / self.n * (1 + distance))

    def sampling_error(self, n_posts: int, standard_error: float | None) -> float:
        """Of the day's posts; `standard_error` is that of their mean score, None where it is not known.

        Against the mean behind the posts it is slope * standard_error (PPI), against the mean that people would give
        these very posts the scatter of what the model does not see. The interval is to hold both: the larger counts.
        """
        seen = self.slope * standard_error if standard_error is not None else 0.0
        return max(seen, sqrt(self.residual_variance / n_posts))

    def correct(self, mean: float, n_posts: int, standard_error: float | None, drift: float = DAY_DRIFT) -> Corrected:
        """The corrected mean of a day of `n_posts` with its 95% interval: sampling, labels and drift are in it."""
        errors = (self.sampling_error(n_posts, standard_error), self.label_error(mean), drift)
        half = Z95 * sqrt(sum(error**2 for error in errors))
        estimate = self.estimate(mean)
        return Corrected(*(min(1.0, max(0.0, value)) for value in (estimate, estimate - half, estimate + half)))
