"""Model-based: whatever the order, batches and repetitions in which posts come, tables and messages are the same."""

import itertools
import random
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import msgspec
import pytest
from batches import letter, micro, post, rows, rules, scored
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from monitor.config import AlertsSection, Config
from monitor.identity import content_hash_of
from monitor.posts import Place, Post, Reason, Record, Score
from monitor.store import daily, evaluation
from monitor.store.database import Database
from monitor.store.saving import Saver
from monitor.store.schema import metadata

TODAY = date(2026, 11, 20)
EVENING = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
RULES = rules(max_invalid_share=1.0)
CONFIG = Config(alerts=AlertsSection(min_posts=2, certainty=0.0, threshold=0.5, max_age_days=20))

#: what must not depend on the order, by table; `posts` without `position`, since an id may come from two places
COMPARED = {
    "posts": "post_key, brand, id, created_at, day, user_id, text, content_hash, pos_prob, pred, label, model",
    "dead_letters": 'stream, partition, "position", reason, detail, raw',
    "positions": "source, stream, partition, next_offset",
    "daily_totals": "brand, day, source, model, n, positives, n_negative, n_neutral, sum_micro, sumsq_micro",
    "daily_sentiment": "brand, day, total, positives, n_negative, n_neutral, n_positive, mean_pos, mean_pos_low, "
    "mean_pos_high, ma3, ma3_span_days, model",
    "alerts": "alert_key, episode, kind, rule_ma3, ma3, mean_pos, total, state, message",
    "episodes": "brand, episode, began_on, announced, settled_through, decided_through",
}


class Arrival(NamedTuple):
    """A record and its score; None for a bad record."""

    record: Record
    score: Score | None


class Store(NamedTuple):
    """A database, and how many examples to try on it."""

    db: Database
    n_examples: int

    def settings(self, test: Callable[[], None]) -> Callable[[], None]:
        """Hypothesis' settings for a test of this store, which is emptied before each run."""
        chosen = settings(max_examples=self.n_examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        return chosen(test)


class Plan(NamedTuple):
    """The arrivals of one run: in any order, some again, cut into batches, each saved by one of two replicas."""

    arrivals: list[Arrival]
    cuts: list[int]  # sizes of the batches, used in turn


def arrivals_of(seed: int) -> list[Arrival]:
    """Posts of two brands on twelve days, with and without ids, good days and bad ones; some records are bad."""
    choice = random.Random(seed)
    moods = {(brand, back): choice.randrange(1_000_001) for brand in "ab" for back in range(12)}
    made: list[Arrival] = []
    for offset in range(choice.randrange(1, 90)):
        if choice.random() < 0.1:
            made.append(Arrival(letter(offset), None))
            continue
        brand, back = choice.choice("ab"), choice.randrange(12)
        score = micro(min(1_000_000, max(0, moods[brand, back] + choice.randrange(-200_000, 200_001))))
        id_, day = ("" if choice.random() < 0.6 else None), TODAY - timedelta(days=back)
        found = post(offset, id=id_, brand=brand, day=day, user_id=f"user-{offset % 5}", text=f"text {offset}")
        made.append(Arrival(found, score))
        if found.id is not None and choice.random() < 0.2:  # the same post under its id at another place
            again = msgspec.structs.replace(found, place=Place(found.place.stream, 0, 1000 + offset))
            made.append(Arrival(again, score))
    return made


@st.composite
def plans(draw: st.DrawFn, arrivals: Sequence[Arrival], repeatable: Sequence[Arrival] = ()) -> Plan:
    """Every arrival at least once, and again whatever of them and of `repeatable` comes again."""
    repeats = draw(st.lists(st.sampled_from([*arrivals, *repeatable]), max_size=len(arrivals)))
    order = draw(st.permutations([*arrivals, *repeats]))
    return Plan(order, draw(st.lists(st.integers(1, 40), min_size=1, max_size=5)))


def save(db: Database, plan: Plan) -> None:
    """Batch after batch, by two savers in turn, as replicas do."""
    savers = itertools.cycle([Saver(db, RULES), Saver(db, RULES)])
    rest, sizes = list(plan.arrivals), itertools.cycle(plan.cuts)
    while rest:
        size = next(sizes)
        batch, rest = rest[:size], rest[size:]
        scores = [arrival.score for arrival in batch if isinstance(arrival.record, Post)]
        next(savers).save(scored([arrival.record for arrival in batch], scores))


def tell(db: Database) -> None:
    """Refresh and evaluate once."""
    daily.refresh(db, EVENING)
    evaluation.evaluate_all(db, CONFIG, EVENING)


def tables_after(db: Database, *plans: Plan) -> dict[str, list[str]]:
    """What an empty database holds after these plans, each told of at its end; floats to the last digit."""
    db.run(lambda connection: [connection.execute(delete(table)) for table in reversed(metadata.sorted_tables)])
    for plan in plans:
        save(db, plan)
        tell(db)
    return {name: sorted(map(repr, rows(db, f"SELECT {columns} FROM {name}"))) for name, columns in COMPARED.items()}


def in_order(arrivals: Sequence[Arrival]) -> Plan:
    """One batch after the other, nothing twice."""
    return Plan(list(arrivals), [25])


@pytest.fixture(
    params=[("sqlite", 30), pytest.param(("postgresql", 15), marks=pytest.mark.postgres)], ids=["sqlite", "postgresql"]
)
def store(request: pytest.FixtureRequest, open_database: Callable[[str], Database]) -> Store:
    """A database of each kind, and how many examples it is worth."""
    kind, n_examples = request.param
    url = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url")
    return Store(open_database(url), n_examples)


def test_any_order_gives_the_same_tables_and_messages(store: Store) -> None:
    """Evaluated once at the end: shuffled, repeated and in other batches it is what it is in order."""

    @store.settings
    @given(st.data(), st.integers(0, 10_000))
    def hold(data: st.DataObject, seed: int) -> None:
        arrivals = arrivals_of(seed)
        assert tables_after(store.db, data.draw(plans(arrivals))) == tables_after(store.db, in_order(arrivals))

    hold()


@pytest.mark.long
def test_any_order_between_two_evaluations_gives_the_same(store: Store) -> None:
    """What comes before an evaluation may come in any order, and so may what comes after it, or again."""

    @store.settings
    @given(st.data(), st.integers(0, 10_000), st.floats(0, 1))
    def hold(data: st.DataObject, seed: int, share: float) -> None:
        arrivals = arrivals_of(seed)
        early, late = arrivals[: int(share * len(arrivals))], arrivals[int(share * len(arrivals)) :]
        plans_ = [
            data.draw(plans(early)) if early else in_order([]),
            data.draw(plans(late, early)) if late else in_order([]),
        ]
        assert tables_after(store.db, *plans_) == tables_after(store.db, in_order(early), in_order(late))

    hold()


class Said(NamedTuple):
    """One record under one of a few ids: where it lies, and what of it may differ from the first under its id."""

    id: str
    brand: str
    text: str
    user_id: str | None
    back: int  # days


saids = st.lists(
    st.builds(
        Said,
        st.sampled_from("abc"),
        st.sampled_from(["acme", "globex"]),
        st.sampled_from(["good", "bad", "good "]),
        st.sampled_from([None, "", "ann"]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=25,
)


def test_an_id_keeps_what_was_said_first_under_it(store: Store) -> None:
    """Of any records under few ids, in any batches and with any repeated, the first of each (brand, id) is the post;
    the same again is nothing, and any other content (text, author or time) is one dead letter at its own place.
    """

    @store.settings
    @given(saids, st.lists(st.integers(1, 10), min_size=1, max_size=4), st.data())
    def hold(said: list[Said], cuts: list[int], data: st.DataObject) -> None:
        arrivals = [Arrival(record_of(one, offset), micro(300_000)) for offset, one in enumerate(said)]
        firsts: dict[tuple[str, str], Said] = {}
        for one in said:
            firsts.setdefault((one.brand, one.id), one)
        conflicts = [offset for offset, one in enumerate(said) if firsts[one.brand, one.id] != one]
        tables = tables_after(store.db, Plan(arrivals, cuts))
        stored = rows(store.db, "SELECT brand, id, text, user_id FROM posts")
        assert sorted(map(repr, stored)) == sorted(repr((*key, one.text, one.user_id)) for key, one in firsts.items())
        letters = rows(store.db, 'SELECT "position", reason, raw FROM dead_letters ORDER BY "position"')
        assert letters == [(offset, Reason.ID_CONFLICT, said[offset].text.encode()) for offset in conflicts]
        assert rows(store.db, "SELECT sum(n) FROM daily_totals") == [(len(firsts),)]
        # what comes again, from where it began and in other batches, as after a lost commit
        again = arrivals[data.draw(st.integers(0, len(arrivals))) :]
        assert tables_after(store.db, Plan(arrivals, cuts), Plan(again, [7])) == tables

    hold()


def record_of(said: Said, offset: int) -> Post:
    """As a message at that offset."""
    day = TODAY - timedelta(days=said.back)
    found = post(offset, id=said.id, brand=said.brand, day=day, user_id=said.user_id, text=said.text)
    created_at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    content_hash = content_hash_of(created_at, said.user_id, said.text)
    return msgspec.structs.replace(found, created_at=created_at, content_hash=content_hash)


def test_the_comparison_sees_what_differs(store: Store) -> None:
    """One score that is off by a millionth shows in posts, totals, daily rows and message."""
    arrivals = [Arrival(post(offset, id=None), micro(200_000)) for offset in range(6)]
    before = tables_after(store.db, in_order(arrivals))
    assert before["alerts"]
    other = [*arrivals[:-1], Arrival(arrivals[-1].record, micro(200_001))]
    after = tables_after(store.db, in_order(other))
    assert {name for name in COMPARED if before[name] != after[name]} == {
        "posts",
        "daily_totals",
        "daily_sentiment",
        "alerts",
    }
