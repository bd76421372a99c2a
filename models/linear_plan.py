"""What a recipe says of a linear kind. No scikit-learn and no torch here."""

from dataclasses import dataclass

from models.shapes import FREQUENCIES, check_name, check_numbers

CLASSIFIERS = ("logistic", "svm")
SOLVERS = ("lbfgs", "liblinear", "saga")


@dataclass(frozen=True)
class LinearPlan:
    """A `linear.LinearClassifier`: features as in `LinearShape`, and what scikit-learn fits to them.

    `c` is the inverse strength of the L2 penalty; `solver` is that of the logistic regression.
    """

    classifier: str = "logistic"
    c: float = 1.0
    solver: str = "lbfgs"
    frequency: str = "log"
    idf: bool = True
    unit_length: bool = True
    balanced: bool = False  # every class weighs alike

    def __post_init__(self) -> None:
        check_numbers(self)
        check_name("network.classifier", self.classifier, CLASSIFIERS)
        check_name("network.solver", self.solver, SOLVERS)
        check_name("network.frequency", self.frequency, FREQUENCIES)
        if not isinstance(self.c, int | float) or not self.c > 0:
            raise ValueError(f"network.c {self.c!r} must be above 0")
