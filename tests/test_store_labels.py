"""Labelled posts in the store: which daily rows they correct, and what a new bundle or a recount does to that."""

from datetime import UTC, datetime, timedelta

import pytest
from batches import DAY, MODEL, NOW, everything, micro, post, rules, scored

from monitor.aggregates import Z95
from monitor.config import Config
from monitor.corrections import Correction, LabelSums, sums_of
from monitor.dashboard import page
from monitor.health import Health
from monitor.metrics import Metrics
from monitor.store import daily, labels
from monitor.store.daily import DailyRow
from monitor.store.database import Database
from monitor.store.saving import Saver

LATER = NOW + timedelta(hours=1)
#: sixty labelled posts on which the bundle is too positive by about 0.2
SUMS = sums_of([(0.0, 0.25), (0.5, 0.7), (1.0, 0.9), (0.0, 0.3), (0.5, 0.75), (0.0, 0.2)] * 10)


def fill(db: Database, n_days: int = 4) -> None:
    """Forty posts a day of two brands, refreshed."""
    records = [
        post(n, brand=brand, day=DAY - timedelta(days=back))
        for n, (brand, back) in enumerate((b, d) for b in ("acme", "globex") for d in range(n_days) for _ in range(40))
    ]
    Saver(db, rules()).save(scored(records, [micro(300_000 + 1_000 * (n % 300)) for n in range(len(records))]))
    daily.refresh(db, NOW)


def corrected(row: DailyRow) -> tuple[float | None, float | None, float | None]:
    """The three columns."""
    return row.mean_pos_corrected, row.corrected_low, row.corrected_high


def test_labels_correct_every_day_of_their_brand_and_no_other(database: Database) -> None:
    """What corrections.py gives for each day; mean_pos and ma3 stay; a brand without labels has nulls."""
    fill(database)
    before = daily.daily_rows(database)
    assert {corrected(row) for row in before} == {(None, None, None)}
    assert labels.save(database, MODEL, {"acme": SUMS}, NOW) == []
    assert daily.refresh(database, LATER) == ["acme"]
    after = daily.daily_rows(database)
    correction = Correction.of(SUMS)
    for old, row in zip(before, after, strict=True):
        assert (row.mean_pos, row.mean_pos_low, row.ma3, row.total) == (
            old.mean_pos, old.mean_pos_low, old.ma3, old.total
        )  # fmt: skip
        if row.brand == "globex":
            assert corrected(row) == (None, None, None)
            continue
        assert row.mean_pos_low is not None
        expected = correction.correct(row.mean_pos, row.total, (row.mean_pos - row.mean_pos_low) / Z95)
        assert corrected(row) == pytest.approx(tuple(expected), abs=1e-12)
        assert expected.mean < row.mean_pos - 0.1
    assert daily.refresh(database, LATER) == []


def test_new_posts_are_corrected_as_they_come(database: Database) -> None:
    """Also a day of one post, whose mean has no interval of its own."""
    fill(database)
    labels.save(database, MODEL, {"acme": SUMS}, NOW)
    Saver(database, rules()).save(scored([post(900, day=DAY + timedelta(days=1))], [micro(800_000)]))
    daily.refresh(database, LATER)
    row = daily.daily_rows(database, brand="acme")[-1]
    assert (row.total, row.mean_pos_low) == (1, None)
    assert corrected(row) == pytest.approx(tuple(Correction.of(SUMS).correct(0.8, 1, None)), abs=1e-12)


def test_labels_count_for_their_bundle_alone(database: Database) -> None:
    """Days of another bundle, and days of several, have nulls until the posts are scored by it too."""
    fill(database)
    labels.save(database, MODEL, {"acme": SUMS}, NOW)
    other = "social-gru@ffffffff"
    both, new = DAY, DAY + timedelta(days=1)
    late = [post(900, day=both), post(901, day=new), post(902, day=new)]
    Saver(database, rules()).save(scored(late, [micro(800_000)] * 3, model=other))
    daily.refresh(database, LATER)
    by_day = {row.day: row for row in daily.daily_rows(database, brand="acme")}
    assert by_day[both].model is None
    assert corrected(by_day[both]) == corrected(by_day[new]) == (None, None, None)
    assert by_day[DAY - timedelta(days=1)].mean_pos_corrected is not None
    labels.save(database, other, {"acme": SUMS}, LATER)
    daily.refresh(database, LATER)
    by_day = {row.day: row for row in daily.daily_rows(database, brand="acme")}
    assert by_day[new].mean_pos_corrected is not None
    assert by_day[DAY - timedelta(days=1)].mean_pos_corrected is not None  # those of the first bundle stay
    assert corrected(by_day[both]) == (None, None, None)


def test_the_status_page_shows_the_correction_with_its_interval(database: Database) -> None:
    """A column of its own for a brand with labels, none for another."""
    today = datetime.now(UTC).date()
    records = [post(n, brand=("acme", "globex")[n % 2], day=today) for n in range(40)]
    Saver(database, rules()).save(scored(records, [micro(300_000)] * 40))
    labels.save(database, MODEL, {"acme": SUMS}, NOW)
    daily.refresh(database, datetime.now(UTC))
    health = Health(Metrics())
    health.up("store", "sqlite")
    (acme, globex) = page.render(database, Config(), health, {}).split("<section>")[1:]
    (row,) = daily.daily_rows(database, brand="acme")
    assert f"<td>{row.mean_pos_corrected:.3f} ({row.corrected_low:.3f} to {row.corrected_high:.3f})</td>" in acme
    assert ("<th>corrected</th>" in acme, "<th>corrected</th>" in globex) == (True, False)


def test_labels_given_again_replace_the_first(database: Database) -> None:
    """They are not added up: the file may have grown, or a label been put right."""
    fill(database)
    labels.save(database, MODEL, {"acme": SUMS}, NOW)
    again = LabelSums(*(2 * value for value in SUMS))
    labels.save(database, MODEL, {"acme": again}, LATER)
    daily.refresh(database, LATER)
    stored = everything(database)["label_sums"]
    assert stored == [("acme", MODEL, *again, LATER)]


def test_labels_of_a_brand_without_posts_wait(database: Database) -> None:
    """The brand is named, and corrected from its first post on."""
    assert labels.save(database, MODEL, {"acme": SUMS}, NOW) == ["acme"]
    fill(database)
    assert all(row.mean_pos_corrected is not None for row in daily.daily_rows(database, brand="acme"))


def test_counting_again_keeps_the_correction(database: Database) -> None:
    """`db rebuild-days` gives the same rows, and a recount finds nothing."""
    fill(database)
    labels.save(database, MODEL, {"acme": SUMS}, NOW)
    daily.refresh(database, NOW)
    before = everything(database)["daily_sentiment"]
    daily.rebuild(database, "UTC", LATER)
    assert everything(database)["daily_sentiment"] == before
    assert daily.recount(database) == []
