"""The episode machine as a pure function: by example, and by invariants over random histories."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from daily_rows import FIRST, PLAIN, row_of, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerts import DayRow, Kind, Rule
from monitor.episodes import (
    Decision,
    EpisodeState,
    Outline,
    PlannedAlert,
    decide,
    first_day_deciding,
    first_day_needed,
)

UTC_ZONE = ZoneInfo("UTC")


def _midnight_after(offset: int) -> datetime:
    return datetime.combine(FIRST + timedelta(days=offset + 1), time(0, 1), tzinfo=UTC)


def _decide(rows: Sequence[DayRow], offset: int, state: EpisodeState | None = None, rule: Rule = PLAIN) -> Decision:
    """Decide just after the end of the day of that offset."""
    return decide(state or EpisodeState(), rows, rule, _midnight_after(offset), UTC_ZONE)


def _day_by_day(rows: Sequence[DayRow], rule: Rule = PLAIN) -> tuple[EpisodeState, list[PlannedAlert]]:
    """Decide after every day; returns the state and everything planned."""
    planned: list[PlannedAlert] = []
    state = EpisodeState()
    for offset in range((rows[-1].day - FIRST).days + 1):
        day = FIRST + timedelta(days=offset)
        decision = _decide([row for row in rows if row.day <= day], offset, state, rule)
        state = decision.state
        planned += decision.planned
    return state, planned


def _told(planned: Sequence[PlannedAlert]) -> list[tuple[str, int]]:
    return [(alert.kind.value, (alert.day - FIRST).days) for alert in planned if alert.state == "pending"]


def _past(planned: Sequence[PlannedAlert]) -> list[tuple[str, int]]:
    return [(alert.kind.value, (alert.day - FIRST).days) for alert in planned if alert.state == "past"]


def test_an_episode_is_told_from_its_dip_to_its_recovery() -> None:
    """Dip on the first day below, reminders on days 1, 2, 3, 7 and 14, recovery; nothing else, and nothing twice."""
    rows = rows_of(0.6, *[0.2] * 17, 0.9, 0.9, 0.9)
    state, planned = _day_by_day(rows)
    assert _told(planned) == [
        ("dip", 1),
        *[("still_down", day) for day in (2, 3, 4, 8, 15)],
        ("recovered", 19),
    ]
    assert _past(planned) == []
    assert state.began_on is None
    assert {alert.episode for alert in planned} == {"acme/2026-11-02"}
    assert planned[0].alert_key == "acme/2026-11-02/dip"


def test_between_threshold_and_margin_an_episode_goes_on_and_none_begins() -> None:
    """0.46 is neither dip nor recovery: no flapping."""
    assert _told(_day_by_day(rows_of(0.46, 0.46, 0.46))[1]) == []
    state, planned = _day_by_day(rows_of(0.3, *[0.46] * 6))
    assert _told(planned) == [("dip", 0), ("still_down", 1), ("still_down", 2), ("still_down", 3)]
    assert state.began_on == FIRST


def test_a_reminder_due_on_a_quiet_day_comes_on_the_next_counting_one() -> None:
    """Day 2 without posts and day 7 with too few: told on days 3 and 8, once."""
    rows = [row_of(n, 0.2, total=10 if n == 7 else 100) for n in range(9) if n != 2]
    assert _told(_day_by_day(rows)[1]) == [("dip", 0), ("still_down", 1), ("still_down", 3), ("still_down", 8)]


def test_history_seen_at_once_is_one_message_about_its_latest_day() -> None:
    """Older events are recorded as past; the open episode that nobody was told of is a dip "since" its first day."""
    decision = _decide(rows_of(0.6, 0.2, 0.2, 0.2, 0.2, 0.2), 5)
    assert _told(decision.planned) == [("dip", 5)]
    assert _past(decision.planned) == [("dip", 1), ("still_down", 2), ("still_down", 3), ("still_down", 4)]
    assert decision.planned[-1].began_on == FIRST + timedelta(days=1)
    assert decision.state.announced


def test_a_dip_that_came_and_went_unseen_is_past() -> None:
    """Nothing is told of an episode that ended before the latest counting day and had not been announced."""
    decision = _decide(rows_of(0.6, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9), 6)
    assert (_told(decision.planned), _past(decision.planned)) == ([], [("dip", 1), ("recovered", 2)])


def test_the_end_of_an_announced_episode_is_told_however_late() -> None:
    """After five days without an evaluation the recovery is told, about the latest counting day."""
    rows = rows_of(0.2, 0.9, 0.9, 0.9, 0.9, 0.9)
    decision = _decide(rows, 5, _decide(rows[:1], 0).state)
    assert (_told(decision.planned), _past(decision.planned)) == ([("recovered", 5)], [("recovered", 1)])


def test_an_old_dip_is_past_until_newer_days_speak() -> None:
    """A file of last month announces nothing; when posts resume while the brand is down, its dip is told once."""
    rows = rows_of(0.2, 0.2)
    old = _decide(rows, 20)
    assert (_told(old.planned), _past(old.planned)) == ([], [("dip", 0), ("still_down", 1)])
    fresh = _decide([*rows, row_of(20, 0.2)], 20, old.state)
    assert _told(fresh.planned) == [("dip", 20)]
    assert fresh.planned[-1].began_on == FIRST
    assert _told(_decide(rows, 7).planned) == [("dip", 1)]  # seven days old: told
    assert _told(_decide(rows, 8).planned) == []  # eight: past


@pytest.mark.parametrize(("hour", "total", "told"), [(11, 100, []), (12, 100, [("dip", 1)]), (12, 29, [])])
def test_the_running_day_may_begin_an_episode_from_noon_on(hour: int, total: int, told: list[tuple[str, int]]) -> None:
    """With min_posts and past running_day_from, in the configured zone; it says "so far today"."""
    zone = ZoneInfo("America/New_York")
    now = datetime(2026, 11, 2, hour, 0, tzinfo=zone).astimezone(UTC)
    decision = decide(EpisodeState(), [row_of(0, 0.5), row_of(1, 0.1, total=total)], PLAIN, now, zone)
    assert _told(decision.planned) == told
    assert all(alert.is_running for alert in decision.planned)


def test_the_running_day_never_ends_or_reminds() -> None:
    """An open episode waits for the day to close, however good or bad the day looks."""
    state = _decide(rows_of(0.2), 0).state
    for mean in (0.9, 0.1):
        decision = decide(state, rows_of(0.2, mean), PLAIN, datetime(2026, 11, 2, 18, 0, tzinfo=UTC), UTC_ZONE)
        assert decision.planned == ()
        assert decision.state == state


def test_a_dip_of_the_running_day_that_was_none_at_its_end_recovers_that_day() -> None:
    """Told at noon, recovered at midnight: the same day, two kinds."""
    noon = decide(EpisodeState(), rows_of(0.5, 0.2), PLAIN, datetime(2026, 11, 2, 12, 0, tzinfo=UTC), UTC_ZONE)
    after = _decide(rows_of(0.5, 0.6), 1, noon.state)
    assert _told([*noon.planned, *after.planned]) == [("dip", 1), ("recovered", 1)]


def test_while_the_window_spans_two_models_no_episode_begins_or_ends() -> None:
    """A step between two bundles is no dip; once three days are of one bundle, what is there is told."""
    rows = [row_of(0, 0.6), row_of(1, 0.2, model=None), row_of(2, 0.2, model="m@2"), row_of(3, 0.2, model="m@2")]
    assert _told(_day_by_day(rows)[1]) == []
    assert _told(_day_by_day([*rows, row_of(4, 0.2, model="m@2")])[1]) == [("dip", 4)]
    down = [row_of(0, 0.2), *[row_of(n, 0.9, model="m@2") for n in (1, 2)]]
    assert ("recovered", 2) not in _told(_day_by_day(down)[1])
    assert _told(_day_by_day([*down, row_of(3, 0.9, model="m@2")])[1])[-1] == ("recovered", 3)


def test_late_posts_can_still_announce_a_closed_day() -> None:
    """Fine at midnight, a dip once the day's last posts came: told, since that day."""
    early = _decide(rows_of(0.6, 0.5), 1)
    late = _decide(rows_of(0.6, 0.2), 1, early.state)
    assert _told(early.planned) == []
    assert _told(late.planned) == [("dip", 1)]


def test_late_posts_take_nothing_back_and_repeat_nothing() -> None:
    """A dip that late posts undo gets a recovery of the same day; undone again, it is not told a second time."""
    first = _decide(rows_of(0.6, 0.2), 1)
    undone = _decide(rows_of(0.6, 0.5), 1, first.state)
    again = _decide(rows_of(0.6, 0.2), 1, undone.state)
    assert [_told(one.planned) for one in (first, undone, again)] == [[("dip", 1)], [("recovered", 1)], []]
    earlier = _decide(rows_of(0.2, 0.2), 1, first.state)  # late posts move the first dip to the day before
    assert earlier.planned == ()
    assert earlier.state.began_on == FIRST + timedelta(days=1)


def test_silence_is_told_once_per_silence_and_only_where_asked() -> None:
    """After no_data_days whole days without a post, about the last of them; off at 0; an old silence is past."""
    rows, rule = rows_of(0.6), Rule(no_data_days=2)
    assert [_told(_decide(rows, offset, rule=rule).planned) for offset in (1, 2)] == [[], [("no_data", 2)]]
    assert {alert.alert_key for n in (2, 3, 9) for alert in _decide(rows, n, rule=rule).planned} == {
        "acme/2026-11-03/no_data"
    }
    assert _past(_decide(rows, 30, rule=rule).planned) == [("no_data", 2)]
    assert _decide(rows, 30).planned == ()


def test_silence_gives_way_to_another_message_and_is_decided_again() -> None:
    """One message per evaluation: the dip first, the silence in the next one."""
    rule = Rule(certainty=0.0, no_data_days=2)
    first = _decide(rows_of(0.2), 3, rule=rule)
    assert (_told(first.planned), first.is_complete) == ([("dip", 0)], False)
    assert _told(_decide(rows_of(0.2), 3, first.state, rule).planned) == [("no_data", 2)]


histories = st.lists(
    st.tuples(
        st.integers(1, 4),  # days since the row before
        st.sampled_from([0.1, 0.3, 0.44, 0.46, 0.47, 0.6, 0.9]),
        st.sampled_from([5, 30, 400]),
        st.sampled_from(["m@1", "m@1", "m@1", "m@2", None]),
    ),
    min_size=1,
    max_size=25,
)


def _history(steps: Sequence[tuple[int, float, int, str | None]]) -> list[DayRow]:
    rows, offset = [], -1
    for gap, mean, total, model in steps:
        offset += gap
        rows.append(row_of(offset, mean, total, 0.3 / total**0.5, model))
    return rows


def _assert_fit_to_send(planned: Sequence[PlannedAlert]) -> None:
    keys = [alert.alert_key for alert in planned if alert.state == "pending"]
    assert len(keys) == len(set(keys))
    dips = [alert.episode for alert in planned if alert.state == "pending" and alert.kind is Kind.DIP]
    assert len(dips) == len(set(dips))


@settings(max_examples=150, deadline=None)
@given(histories, st.sampled_from([0.0, 0.95]))
def test_however_often_it_is_evaluated_the_same_episode_is_open(
    steps: list[tuple[int, float, int, str | None]], certainty: float
) -> None:
    """Once at the end or after every day: the same episode is open, nothing is told twice, repeating adds nothing."""
    rows, rule = _history(steps), Rule(certainty=certainty)
    last = (rows[-1].day - FIRST).days
    state, planned = _day_by_day(rows, rule)
    once = _decide(rows, last, rule=rule)
    assert once.state.began_on == state.began_on
    assert sum(alert.state == "pending" for alert in once.planned) <= 1
    _assert_fit_to_send(planned)
    assert _decide(rows, last, once.state, rule).planned == ()
    assert _decide(rows, last, state, rule).planned == ()


@settings(max_examples=150, deadline=None)
@given(histories, st.data())
def test_late_posts_never_repeat_a_message(
    steps: list[tuple[int, float, int, str | None]], data: st.DataObject
) -> None:
    """Rows that change behind the evaluations: keys and dips stay unique, with one message per evaluation."""
    planned: list[PlannedAlert] = []
    rows, state = _history(steps), EpisodeState()
    last = (rows[-1].day - FIRST).days
    for _ in range(data.draw(st.integers(1, 12))):
        changed = data.draw(st.integers(0, len(rows) - 1))
        mean = data.draw(st.sampled_from([0.1, 0.46, 0.9]))
        rows[changed] = row_of((rows[changed].day - FIRST).days, mean, 400)
        now = _midnight_after(last) - timedelta(hours=data.draw(st.integers(0, 48)))
        decision = decide(state, rows, PLAIN, now, UTC_ZONE)
        assert sum(alert.state == "pending" for alert in decision.planned) <= 1
        planned += decision.planned
        state = decision.state
    keys = [alert.alert_key for alert in planned]
    assert len(keys) == len(set(keys))
    _assert_fit_to_send(planned)


def _outline(rows: Sequence[DayRow], rule: Rule, today: date) -> Outline:
    counting = [row for row in rows if row.total >= rule.min_posts]
    return Outline(
        min((row.mean_pos for row in counting), default=None),
        max((row.day for row in counting if row.day < today), default=None),
        max((row.day for row in rows if row.day <= today), default=None),
    )


@settings(max_examples=400, deadline=None)
@given(histories, st.data(), st.sampled_from([0.0, 0.95]), st.sampled_from([0, 2, 40]))
def test_the_days_that_decide_come_to_what_all_days_come_to(
    steps: list[tuple[int, float, int, str | None]], data: st.DataObject, certainty: float, no_data_days: int
) -> None:
    """Evaluated at any hours of some days, with rows that are hidden because they cannot matter: the same decision."""
    rows, state = _history(steps), EpisodeState()
    rule = Rule(certainty=certainty, no_data_days=no_data_days, threshold=data.draw(st.sampled_from([0.2, 0.45, 0.47])))
    last = (rows[-1].day - FIRST).days
    for offset in sorted(data.draw(st.lists(st.integers(-1, last + 9), min_size=1, max_size=6))):
        now = _midnight_after(offset) + timedelta(hours=data.draw(st.integers(0, 22)))
        needed = [row for row in rows if row.day >= first_day_needed(state, rule)]
        first = first_day_deciding(state, rule, _outline(needed, rule, now.date()))
        decision = decide(state, needed, rule, now, UTC_ZONE)
        assert decide(state, [row for row in rows if first and row.day >= first], rule, now, UTC_ZONE) == decision
        state = decision.state


def test_a_calm_brand_is_decided_by_its_last_days() -> None:
    """Years of good days, or of days that do not count, are not read again; an open episode or a bad day is."""
    rule, state, today = PLAIN, EpisodeState(decided_through=FIRST + timedelta(days=400)), FIRST + timedelta(days=402)
    good = [row_of(offset, 0.6) for offset in range(402)]
    assert first_day_deciding(state, rule, _outline(good, rule, today)) == FIRST + timedelta(days=401)
    few = [row_of(offset, 0.1, total=2) for offset in range(402)]
    assert first_day_deciding(EpisodeState(), rule, _outline(few, rule, today)) == FIRST + timedelta(days=401)
    assert first_day_deciding(EpisodeState(), rule, Outline(None, None, None)) is None
    bad = [*good[:-1], row_of(401, 0.1)]
    assert first_day_deciding(state, rule, _outline(bad, rule, today)) == first_day_needed(state, rule)
    is_open = EpisodeState(began_on=FIRST, decided_through=state.decided_through)
    assert first_day_deciding(is_open, rule, _outline(good, rule, today)) == first_day_needed(is_open, rule)
