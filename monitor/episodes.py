"""The episode machine: from daily rows and what is remembered of a brand to the messages that are due. Pure.

How late posts are met. Everything up to `settled_through`, the latest day that a message or a record is about, stays as
it was told. Every later day is decided again from the rows as they are now, up to LATE_DAYS back. So a day that looked
fine at midnight and dips once its last posts arrive is still announced, and what was announced is never taken back: a
day that turns out fine after all gets a `recovered`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from monitor.alerts import DayRow, Kind, Rule, Window, is_dip, is_recovered, windows_of

LATE_DAYS = 60  #: days before the latest decided one that are still decided again when late posts change them
LOOK_BACK_DAYS = 31  #: days before the decided ones that a message may show
_CLEARLY = 1e-6  #: above the threshold by more than what floating point and the rule's rounding could take away
_EARLY_REMINDERS = (1, 2, 3)  #: days of an episode with a `still_down`; then every seventh


@dataclass(frozen=True)
class EpisodeState:
    """What is remembered of one brand between evaluations."""

    began_on: date | None = None  # first counting day of the open episode; None when none is open
    announced: bool = False  # whether a message about the open episode was put into the outbox
    settled_through: date | None = None  # latest day that a message or record is about: up to it all stays as told
    decided_through: date | None = None  # latest closed counting day that was decided


@dataclass(frozen=True)
class PlannedAlert:
    """One row for the outbox: a message to send (`pending`) or a record of what came too late to be told (`past`)."""

    brand: str
    kind: Kind
    day: date
    state: str
    window: Window | None  # None for no_data
    began_on: date | None = None  # of the episode; None for no_data
    is_running: bool = False  # about the running day: "so far today"

    @property
    def alert_key(self) -> str:
        """Unique over all time: brand/day/kind."""
        return f"{self.brand}/{self.day.isoformat()}/{self.kind}"

    @property
    def episode(self) -> str | None:
        """brand/first day."""
        return None if self.began_on is None else f"{self.brand}/{self.began_on.isoformat()}"


@dataclass(frozen=True)
class Decision:
    """What one evaluation of one brand comes to: at most one of `planned` is pending."""

    state: EpisodeState
    planned: tuple[PlannedAlert, ...] = ()
    is_complete: bool = True  # False: a no_data message gave way to another one; evaluate again


@dataclass
class _Walk:
    """The machine on its way through the days, oldest first."""

    rule: Rule
    began_on: date | None
    announced: bool
    settled_through: date | None
    events: list[PlannedAlert] = field(default_factory=list)  # all as `past`; decide() picks the one to announce
    ended_announced: bool = False  # an episode that ended on this walk had been announced

    def closed_day(self, window: Window, previous: date | None) -> None:
        """Decide one closed counting day; `previous` is the counting day before it."""
        settled = self.settled_through
        if self.began_on is None:
            if settled is None or window.day > settled:
                self.begin(window)
        elif settled is None or window.day >= settled:
            if is_recovered(window, self.rule) and not window.spans_models:
                self._record(Kind.RECOVERED, window)
                self.ended_announced, self.began_on = self.ended_announced or self.announced, None
            elif (settled is None or window.day > settled) and _is_reminder_due(self.began_on, previous, window.day):
                self._record(Kind.STILL_DOWN, window)

    def begin(self, window: Window, *, is_running: bool = False) -> None:
        """Open an episode on this day if it is a dip."""
        if is_dip(window, self.rule) and not window.spans_models:
            self.began_on, self.announced = window.day, False
            self._record(Kind.DIP, window, is_running=is_running)

    def _record(self, kind: Kind, window: Window, *, is_running: bool = False) -> None:
        brand = window.days[-1].brand
        self.events.append(PlannedAlert(brand, kind, window.day, "past", window, self.began_on, is_running))
        self.settled_through = _latest(window.day, self.settled_through)


def _is_reminder_due(began_on: date, previous: date | None, day: date) -> bool:
    """Whether day 1, 2, 3, 7, 14, 21 ... of the episode was reached since the counting day before.

    A reminder due on a day that does not count comes on the next one that does.
    """
    reached = _n_reminders((day - began_on).days)
    return reached > _n_reminders((max(previous or began_on, began_on) - began_on).days)


def _n_reminders(elapsed_days: int) -> int:
    return sum(day <= elapsed_days for day in _EARLY_REMINDERS) + elapsed_days // 7


def decide(state: EpisodeState, rows: Sequence[DayRow], rule: Rule, now: datetime, zone: ZoneInfo) -> Decision:
    """What to announce and to remember, given a brand's daily rows sorted by day and an aware `now`.

    `rows` may begin at `first_day_needed`. The same rows give the same decision whatever order their posts came in.
    Deciding again with the new state plans nothing more, but for the one no_data key of a silence.
    """
    local = now.astimezone(zone)
    windows = [window for window in windows_of(rows, rule) if window.day <= local.date()]
    closed = [window for window in windows if window.day < local.date()]
    running = windows[-1] if len(windows) > len(closed) and local.time() >= rule.running_day_from else None
    walk = _walk(state, closed, running, rule)
    news = _news(state, walk, closed, running, local.date())
    silence = _silence(rows, rule, local.date())
    planned = [event for event in walk.events if news is None or not _is_told_by(news, event)]
    if news or silence:
        planned.append(news or silence)  # type: ignore[arg-type]  # one of them is there
    after = EpisodeState(
        began_on=walk.began_on,
        announced=walk.began_on is not None and (walk.announced or news is not None),
        settled_through=_latest(walk.settled_through, news.day if news else None),
        decided_through=_latest(state.decided_through, closed[-1].day if closed else None),
    )
    return Decision(after, tuple(planned), is_complete=not (news and silence))


def first_day_needed(state: EpisodeState, rule: Rule) -> date:
    """The earliest day whose row can matter to `decide` or, a month more, to a message's look back."""
    if state.decided_through is None:
        return date.min
    return state.decided_through - timedelta(days=LATE_DAYS + rule.max_span_days + LOOK_BACK_DAYS)


@dataclass(frozen=True)
class Outline:
    """A brand's days from `first_day_needed` on in three figures; None where no such day is."""

    lowest_mean: float | None  # smallest mean_pos of the counting days, the running one included
    last_closed: date | None  # latest counting day before today
    last_posts: date | None  # latest day with posts, today included


def is_good(mean_pos: float, rule: Rule) -> bool:
    """Whether a day of this mean makes no window a dip; a window of such days is above the threshold too."""
    return mean_pos >= rule.threshold + _CLEARLY


def first_day_deciding(state: EpisodeState, rule: Rule, outline: Outline) -> date | None:
    """The earliest day whose row can change what `decide` comes to; None where no day can.

    Where no episode is open and no counting day is under the threshold no window is a dip, so only which days are there
    is left to look at: a few rows instead of those of months, or of all days of a brand that has no counting day yet.
    """
    lowest = outline.lowest_mean
    if state.began_on is not None or not (lowest is None or is_good(lowest, rule)):
        return first_day_needed(state, rule)
    last = min((day for day in (outline.last_closed, outline.last_posts) if day is not None), default=None)
    if last is None or not rule.no_data_days:
        return last
    return max(first_day_needed(state, rule), last - timedelta(days=LOOK_BACK_DAYS))  # drawn in its message


def _is_told_by(news: PlannedAlert, event: PlannedAlert) -> bool:
    """Whether the message stands for this record: the same key, or a reminder on the day of a first word."""
    return event.day == news.day and (event.kind is news.kind or event.kind is Kind.STILL_DOWN)


def _latest(*days: date | None) -> date | None:
    return max((day for day in days if day is not None), default=None)


def _walk(state: EpisodeState, closed: Sequence[Window], running: Window | None, rule: Rule) -> _Walk:
    walk = _Walk(rule, state.began_on, state.announced, state.settled_through)
    floor = state.decided_through - timedelta(days=LATE_DAYS) if state.decided_through else date.min
    previous = None
    for window in closed:
        if window.day >= floor:
            walk.closed_day(window, previous)
        previous = window.day
    if running and walk.began_on is None and (walk.settled_through is None or running.day > walk.settled_through):
        walk.begin(running, is_running=True)
    return walk


def _news(
    state: EpisodeState, walk: _Walk, closed: Sequence[Window], running: Window | None, today: date
) -> PlannedAlert | None:
    """The one message of this evaluation, about the latest counting day; None where nothing is to be told."""
    oldest = today - timedelta(days=walk.rule.max_age_days)
    last = walk.events[-1] if walk.events else None
    if walk.began_on and not walk.announced:
        return _first_word(state, walk, closed, running, oldest)
    if last is None:
        return None
    if last.kind is Kind.RECOVERED and walk.ended_announced:  # who was told of the dip hears of its end, however late
        return replace(last, state="pending", day=closed[-1].day, window=closed[-1])
    return replace(last, state="pending") if last.day == closed[-1].day and last.day >= oldest else None


def _first_word(
    state: EpisodeState, walk: _Walk, closed: Sequence[Window], running: Window | None, oldest: date
) -> PlannedAlert | None:
    """The dip message of an open episode that nobody was told of: about the latest counting day, "since" its first."""
    is_running = running is not None and is_dip(running, walk.rule) and not running.spans_models
    window = running if is_running and running else closed[-1] if closed else None
    is_new = window is not None and (state.settled_through is None or window.day > state.settled_through)
    if window is None or not is_new or window.day < oldest:
        return None
    return PlannedAlert(window.days[-1].brand, Kind.DIP, window.day, "pending", window, walk.began_on, is_running)


def _silence(rows: Sequence[DayRow], rule: Rule, today: date) -> PlannedAlert | None:
    """A no_data message after `no_data_days` whole days without a post, about the last of them: so once per silence."""
    last = max((row for row in rows if row.total and row.day <= today), key=lambda row: row.day, default=None)
    if not rule.no_data_days or last is None:
        return None
    day = last.day + timedelta(days=rule.no_data_days)
    if day >= today:
        return None
    state = "pending" if day >= today - timedelta(days=rule.max_age_days) else "past"
    return PlannedAlert(last.brand, Kind.NO_DATA, day, state, None)
