"""Daily rows: refreshed from totals, equal to a full recomputation, compared with posts, counted in another zone."""

import random
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import msgspec
import pandas as pd
import pytest
from batches import DAY, MODEL, NOW, everything, micro, post, rows, rules, scored
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from monitor.errors import ConfigError
from monitor.store import daily
from monitor.store import settings as store_settings
from monitor.store.daily import Difference
from monitor.store.database import Database
from monitor.store.saving import Saver
from monitor.store.schema import brands, posts
from monitor.store.totals import Totals

LATER = NOW + timedelta(hours=1)


def test_refresh_gives_what_pandas_gives(database: Database) -> None:
    """size, mean by day, then rolling(3, min_periods=1).mean() over the stored posts, to 1e-9."""
    rnd = random.Random(3)
    records = [
        post(offset, brand=rnd.choice(["acme", "globex"]), day=DAY - timedelta(days=rnd.choice([0, 1, 2, 5, 9])))
        for offset in range(500)
    ]
    Saver(database, rules()).save(scored(records, [micro(rnd.randrange(1_000_001)) for _ in records]))
    assert daily.refresh(database, NOW) == ["acme", "globex"]
    stored = pd.DataFrame(
        rows(database, "SELECT brand, day, pos_prob FROM posts"), columns=["brand", "day", "pos_prob"]
    )
    expected = stored.groupby(["brand", "day"])["pos_prob"].agg(["size", "mean"]).reset_index()
    ma3 = expected.groupby("brand")["mean"].transform(lambda means: means.rolling(3, min_periods=1).mean())
    found = daily.daily_rows(database)
    assert [(row.brand, str(row.day), row.total) for row in found] == [
        (row.brand, str(row.day), row.size)
        for row in expected.rename(columns={"size": "n"}).assign(size=expected["size"]).itertuples()
    ]
    assert [row.mean_pos for row in found] == pytest.approx(list(expected["mean"]), abs=1e-9)
    assert [row.ma3 for row in found] == pytest.approx(list(ma3), abs=1e-9)
    assert {row.model for row in found} == {MODEL}
    assert daily.refresh(database, NOW) == []


def test_rows_are_chosen_by_brand_and_inclusive_days(database: Database) -> None:
    """`daily_rows` includes both ends and sorts by brand and day."""
    records = [post(n, brand=brand, day=DAY + timedelta(days=n)) for n in range(4) for brand in ("b", "a")]
    Saver(database, rules()).save(scored(records))
    daily.refresh(database, NOW)
    found = daily.daily_rows(database, brand="a", since=DAY + timedelta(days=1), until=DAY + timedelta(days=2))
    assert [(row.brand, row.day) for row in found] == [("a", DAY + timedelta(days=1)), ("a", DAY + timedelta(days=2))]
    assert [row.brand for row in daily.daily_rows(database)] == ["a"] * 4 + ["b"] * 4


def test_a_late_post_changes_its_day_and_the_ma3_that_follows(database: Database) -> None:
    """Rows whose figures stay keep their updated_at; the late day and the two days with posts after it are written."""
    saver = Saver(database, rules())
    days = [DAY + timedelta(days=n) for n in (0, 1, 4, 5, 6)]
    saver.save(scored([post(n, day=day) for n, day in enumerate(days)], [micro(400_000)] * 5))
    daily.refresh(database, NOW)
    saver.save(scored([post(100, day=days[1])], [micro(100_000)]))
    daily.refresh(database, LATER)
    found = daily.daily_rows(database)
    assert [row.updated_at for row in found] == [NOW, LATER, LATER, LATER, NOW]
    assert found[1].mean_pos == 0.25
    assert [row.ma3 for row in found] == pytest.approx([0.4, 0.325, 0.35, 0.35, 0.4])


def test_a_post_of_an_earlier_new_day_is_seen_by_the_days_after_it(database: Database) -> None:
    """A new day between two known ones shifts the windows of both that follow."""
    saver = Saver(database, rules())
    saver.save(scored([post(n, day=DAY + timedelta(days=n)) for n in (0, 2, 3)], [micro(600_000)] * 3))
    daily.refresh(database, NOW)
    saver.save(scored([post(9, day=DAY + timedelta(days=1))], [micro(0)]))
    daily.refresh(database, LATER)
    assert [row.ma3 for row in daily.daily_rows(database)] == pytest.approx([0.6, 0.3, 0.4, 0.4])
    assert [row.ma3_span_days for row in daily.daily_rows(database)] == [1, 2, 3, 3]


def test_refresh_does_not_read_posts(open_database: Callable[[str], Database], sqlite_url: str) -> None:
    """Its cost does not grow with the number of posts: it works with the posts table gone."""
    db = open_database(sqlite_url)
    Saver(db, rules()).save(scored([post(0)]))
    db.run(lambda connection: connection.execute(text("DROP TABLE posts")))
    assert daily.refresh(db, NOW) == ["acme"]


def test_many_brands_are_refreshed_in_groups(database: Database) -> None:
    """More brands than fit into one transaction are all refreshed by one call."""
    names = [f"brand {n:03}" for n in range(daily.BRANDS_AT_ONCE + 20)]
    Saver(database, rules()).save(scored([post(n, brand=name) for n, name in enumerate(names)]))
    assert daily.refresh(database, NOW) == names
    assert [row.brand for row in daily.daily_rows(database)] == names
    assert database.read(lambda c: c.execute(select(brands.c.refreshed_at)).scalars().all()) == [NOW] * len(names)


one_post = st.tuples(
    st.integers(0, 30), st.integers(0, 1_000_000), st.integers(-8, 0), st.sampled_from(["acme", "globex"])
)


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(st.lists(one_post, min_size=1, max_size=40), st.data())
def test_any_order_and_any_duplication_give_the_same_tables(
    migrated_sqlite: Path, drawn: list[tuple[int, int, int, str]], data: st.DataObject
) -> None:
    """However posts arrive, repeat and are refreshed in between, the tables are equal to the last digit."""
    made = {
        key: (post(key, brand=brand, day=DAY + timedelta(days=shift)), micro(score))
        for key, score, shift, brand in drawn
    }
    disorder = data.draw(st.lists(st.sampled_from(sorted(made)), max_size=40)) + data.draw(
        st.permutations(sorted(made))
    )
    cuts = data.draw(st.lists(st.integers(0, len(disorder)), max_size=5))
    parts = [disorder[start:end] for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(disorder)], strict=True)]
    in_order = tables_after(migrated_sqlite, [[made[key] for key in sorted(made)]])
    assert tables_after(migrated_sqlite, [[made[key] for key in part] for part in parts if part]) == in_order


@pytest.fixture(scope="module")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    from monitor.store import migrate

    path = tmp_path_factory.mktemp("template") / "template.db"
    db = Database(f"sqlite:///{path}")
    migrate.upgrade(db)
    db.close()
    return path


def tables_after(template: Path, batches: list[list[tuple[object, object]]]) -> dict[str, list[tuple[object, ...]]]:
    """posts, daily_totals and daily_sentiment after saving and refreshing batch by batch."""
    with TemporaryDirectory() as folder:
        shutil.copyfile(template, Path(folder) / "copy.db")
        db = Database(f"sqlite:///{folder}/copy.db")
        saver = Saver(db, rules())
        for batch in batches:
            saver.save(scored([record for record, _ in batch], [score for _, score in batch]))  # type: ignore[misc]
            daily.refresh(db, NOW)
        found = everything(db)
        db.close()
    return {name: found[name] for name in ("posts", "daily_totals", "daily_sentiment")}


def test_recount_names_every_difference(database: Database) -> None:
    """Totals that are wrong, missing or left over are told with both sides; nothing is changed."""
    Saver(database, rules()).save(
        scored([post(0), post(1, brand="globex"), post(2, day=DAY - timedelta(days=400))], [micro(500_000)] * 3)
    )
    assert daily.recount(database) == []
    right = Totals(1, 1, 0, 1, 0, 500_000, 250_000)
    database.run(lambda c: c.execute(text("UPDATE daily_totals SET n = 2 WHERE brand = 'acme' AND day > '2026-01-01'")))
    database.run(lambda c: c.execute(text("DELETE FROM daily_totals WHERE brand = 'globex'")))
    database.run(lambda c: c.execute(text("DELETE FROM posts WHERE day < '2026-01-01'")))
    before = everything(database)
    assert daily.recount(database) == [
        Difference("acme", DAY - timedelta(days=400), "posts", MODEL, right, None),
        Difference("acme", DAY, "posts", MODEL, right._replace(n=2), right),
        Difference("globex", DAY, "posts", MODEL, None, right),
    ]
    assert everything(database) == before


def berlin_post(offset: int, moment: datetime) -> object:
    """A post at that moment, whose day is counted in Berlin."""
    one = post(offset)
    return msgspec.structs.replace(one, created_at=moment, day=moment.astimezone(ZoneInfo("Europe/Berlin")).date())


def test_rebuild_counts_days_in_another_zone(database: Database) -> None:
    """Days move with the zone over both changes of the clock; totals, daily rows and stored zone follow, and back."""
    store_settings.claim_time_zone(database, "Europe/Berlin")
    moments = [
        datetime(2026, 3, 28, 23, 30, tzinfo=UTC),  # 29 March 00:30 in Berlin, the short day
        datetime(2026, 3, 29, 21, 59, tzinfo=UTC),  # 29 March 23:59, summer time
        datetime(2026, 3, 29, 22, 0, tzinfo=UTC),  # 30 March 00:00
        datetime(2026, 10, 25, 22, 30, tzinfo=UTC),  # 25 October 23:30, winter time again
        datetime(2026, 10, 25, 23, 0, tzinfo=UTC),  # 26 October 00:00
    ]
    records = [berlin_post(n, moment) for n, moment in enumerate(moments)]
    Saver(database, rules()).save(scored(records, [micro(200_000 * n) for n in range(5)]))  # type: ignore[arg-type]
    daily.refresh(database, NOW)
    in_berlin = everything(database)
    assert [(row.day, row.total) for row in daily.daily_rows(database)] == [
        (date(2026, 3, 29), 2), (date(2026, 3, 30), 1), (date(2026, 10, 25), 1), (date(2026, 10, 26), 1),
    ]  # fmt: skip

    assert daily.rebuild(database, "UTC", NOW) == 3
    assert [(row.day, row.total) for row in daily.daily_rows(database)] == [
        (date(2026, 3, 28), 1), (date(2026, 3, 29), 2), (date(2026, 10, 25), 2),
    ]  # fmt: skip
    assert daily.recount(database) == []
    store_settings.claim_time_zone(database, "UTC")
    with pytest.raises(ConfigError, match="rebuild-days"):
        store_settings.claim_time_zone(database, "Europe/Berlin")

    assert daily.rebuild(database, "Europe/Berlin", NOW) == 3
    assert everything(database) == in_berlin


def test_rebuild_repairs_totals(database: Database) -> None:
    """What a recount complains of is right again after a rebuild in the same zone."""
    Saver(database, rules()).save(scored([post(n, brand=f"brand {n % 3}") for n in range(50)]))
    daily.refresh(database, NOW)
    right = everything(database)
    database.run(lambda c: c.execute(text("UPDATE daily_totals SET sum_micro = 1")))
    database.run(lambda c: c.execute(update(posts).where(posts.c.id == "id-7").values(day=DAY + timedelta(days=9))))
    assert daily.rebuild(database, "UTC", NOW) == 1
    assert daily.recount(database) == []
    repaired = everything(database)
    for name in ("posts", "daily_totals", "daily_sentiment"):
        assert repaired[name] == right[name]
