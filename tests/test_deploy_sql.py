"""deploy/sql on a real PostgreSQL: each role can do its work and no more; the brands dashboard reads as an analyst."""

import json
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from batches import NOW, letter, post, rules, scored
from deploy_files import DEPLOY
from sqlalchemy.engine import make_url

from monitor.store import daily, migrate, retention
from monitor.store.database import Database
from monitor.store.saving import Saver
from monitor.store.settings import claim_time_zone

pytestmark = pytest.mark.postgres


def connect(url: str, role: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection to the same database as another role; the test server asks for no password."""
    return psycopg.connect(url, user=role, autocommit=True)


@pytest.fixture
def with_roles(postgres_url: str) -> str:
    """URL of a migrated database in which roles.sql ran, twice, as its README promises that it may."""
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        for _ in range(2):
            owner.execute((DEPLOY / "sql" / "roles.sql").read_bytes())
    return postgres_url


@pytest.fixture
def daemon_url(with_roles: str) -> str:
    """URL with which the daemon's own role connects."""
    return str(make_url(with_roles).set(username="sentiment_daemon").render_as_string(hide_password=False))


def test_the_daemon_works_with_its_role_alone(daemon_url: str, open_database: Callable[[str], Database]) -> None:
    """sentiment_daemon saves, refreshes and blanks old texts, and cannot touch a table's shape."""
    db = open_database(daemon_url)
    assert db.read(lambda connection: connection.exec_driver_sql("SELECT current_user").scalar()) == "sentiment_daemon"
    migrate.check(db)
    claim_time_zone(db, "UTC")
    saved = Saver(db, rules()).save(scored([post(0), post(1), letter(2)]))
    assert saved.n_inserted == 2
    assert daily.refresh(db, NOW) == ["acme"]
    retention.retain(db, NOW + timedelta(days=999), 365, keep_text=True)
    with connect(daemon_url, "sentiment_daemon") as connection:
        assert connection.execute("SELECT count(*) FROM posts WHERE text IS NULL").fetchall() == [(2,)]
        for forbidden in (
            "CREATE TABLE mine (x int)",
            "DROP TABLE posts",
            "ALTER TABLE posts ADD x int",
            "TRUNCATE posts",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())


def test_analysts_read_figures_and_no_people(daemon_url: str, open_database: Callable[[str], Database]) -> None:
    """sentiment_analyst reads daily rows and scores; texts, authors, raw records, messages and keys stay closed."""
    db = open_database(daemon_url)
    Saver(db, rules()).save(scored([post(0), letter(1)]))
    daily.refresh(db, NOW)
    with connect(daemon_url, "sentiment_analyst") as connection:
        assert connection.execute("SELECT brand, total FROM daily_sentiment").fetchall() == [("acme", 1)]
        assert connection.execute("SELECT brand, day, label FROM posts").rowcount == 1
        for closed in (
            "text FROM posts",
            "user_id FROM posts",
            "message FROM alerts",
            "raw FROM dead_letters",
            "* FROM settings",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT {closed}".encode())
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM daily_sentiment")


def test_the_brands_dashboard_runs_as_an_analyst(daemon_url: str, open_database: Callable[[str], Database]) -> None:
    """Every query of brands.json, Grafana's macros filled in, works with the analyst's rights and finds the day."""
    db = open_database(daemon_url)
    Saver(db, rules()).save(scored([post(0)]))
    daily.refresh(db, NOW)
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "brands.json").read_text(encoding="utf-8"))
    queries = {panel["title"]: panel["targets"][0]["rawSql"] for panel in board["panels"]}
    with connect(daemon_url, "sentiment_analyst") as connection:
        for title, query in queries.items():
            filled = query.replace("$brand", "'acme'")
            filled = filled.replace(
                "$__timeFilter(day)", "day BETWEEN '2026-11-01T00:00:00Z' AND '2026-12-01T00:00:00Z'"
            )
            n_expected = 0 if title == "Alerts" else 1
            assert connection.execute(filled.encode()).rowcount == n_expected, title
        assert connection.execute(board["templating"]["list"][0]["query"].encode()).fetchall() == [("acme",)]
