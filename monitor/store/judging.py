"""The window of a source's recent outcomes: whether too many of its records are bad.

Pure; `saving.py` keeps the window in SQL.
"""

from collections.abc import Iterable

from monitor.errors import Refusals, TooManyRefused
from monitor.posts import Reason, Record

WINDOW = 1000  #: records that are remembered
MIN_JUDGED = 100  #: below this a source is not judged

ACCEPTED = "."
REFUSED = "x"


def judge(source: str, window: str, outcomes: Iterable[bool], max_invalid_share: float) -> str:
    """Follow the outcomes (True: refused) record by record and return the window after them, oldest first.

    Raises TooManyRefused at the first record after which, of the last 1,000 records (at least 100), more than the share
    were refused.
    """
    marks = "".join(REFUSED if refused else ACCEPTED for refused in outcomes)
    if REFUSED not in marks and len(window) >= MIN_JUDGED:
        return (window + marks)[
            -WINDOW:
        ]  # good records alone cannot raise the share of a window that was judged before
    history = window + marks
    n_refused = window.count(REFUSED)
    for end in range(len(window) + 1, len(history) + 1):
        n_refused += history[end - 1] == REFUSED
        if end > WINDOW:
            n_refused -= history[end - WINDOW - 1] == REFUSED
        n_judged = min(end, WINDOW)
        if n_judged >= MIN_JUDGED and n_refused > max_invalid_share * n_judged:
            raise TooManyRefused(source, n_refused, n_judged)
    return history[-WINDOW:]


def reasons_of(outcomes: Iterable[tuple[Record, object]]) -> dict[str, Refusals]:
    """Of (record, outcome) pairs the refused ones by reason."""
    found: dict[str, Refusals] = {}
    for record, outcome in outcomes:
        if isinstance(outcome, Reason):
            first = found.get(outcome.value) or Refusals(0, _where(record), record.line)
            found[outcome.value] = first._replace(n=first.n + 1)
    return found


def _where(record: Record) -> str:
    if record.line is not None:
        return f"on line {record.line}"
    place = record.place
    return f"at {place.stream.rpartition('@')[0]}:{place.partition}:{place.offset}"
