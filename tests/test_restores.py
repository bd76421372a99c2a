"""What surrounds the monitor goes back in time or is made anew: a dump, a topic, a log, group offsets, a source's name.

A PostgreSQL dump restored under a running daemon is in test_end_to_end_kafka.py.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from daemon_process import wait_until, write_config
from fixtures_daemon import RunOnce
from fixtures_kafka import Broker
from fixtures_postgres import PostgresServer
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata
from sites import Site, copied_database, restore_database
from stored import check_totals, count, n_posts, url_in
from traffic import Message, csv_bytes, drop, messages, rows

from monitor.store import positions
from monitor.store.database import Database


@pytest.fixture
def site(real_kafka: Broker, sqlite_url: str, tmp_path: Path, tiny_bundle: str) -> Site:
    """A topic of one partition and a SQLite database."""
    return Site(real_kafka, sqlite_url, tmp_path, tiny_bundle, 1)


def set_group_offset(site: Site, offset: int) -> None:
    """What `kafka-consumer-groups --reset-offsets` does to a group without members."""
    partition = TopicPartition(site.topic, 0)
    group = site.source["group_id"]
    consumer = KafkaConsumer(bootstrap_servers=site.broker.servers, group_id=group, enable_auto_commit=False)
    try:
        consumer.assign([partition])
        consumer.commit({partition: OffsetAndMetadata(offset, "", -1)})
        assert consumer.committed(partition) == offset
    finally:
        consumer.close(autocommit=False)


def made_anew(broker: Broker, topic: str) -> bool:
    """Create the topic once the old one is gone."""
    try:
        broker.create_topic(topic)
    except TopicAlreadyExistsError:
        return False
    return True


@pytest.mark.kafka
def test_group_offsets_moved_by_anybody_change_nothing(site: Site, run_once: RunOnce) -> None:
    """Back to the beginning, or ahead of what was read: the stored position counts, and every post once."""
    config = site.config()
    sent = site.produce(messages(150, seed=21))
    assert run_once(config) == 0
    set_group_offset(site, 0)
    sent += site.produce(messages(150, seed=22))
    assert run_once(config) == 0
    site.check(sent)
    sent += site.produce(messages(150, seed=23))
    set_group_offset(site, 450)
    assert run_once(config) == 0
    site.check(sent)


@pytest.mark.kafka
def test_a_topic_made_anew_is_read_from_its_beginning(site: Site, run_once: RunOnce) -> None:
    """The new topic's records count although the old one's offsets are the same; ids that were seen stay seen."""
    config = site.config()
    sent = site.produce(messages(150, seed=24))
    assert run_once(config) == 0
    site.broker.delete_topic(site.topic)
    wait_until(lambda: made_anew(site.broker, site.topic), "the new topic")
    again = [message for message, _ in sent if b'"id": "' in (message.value or b"") and message.reason is None]
    sent += site.produce([*messages(120, seed=25), *(message._replace(is_repeat=True) for message in again[:40])])
    assert run_once(config) == 0
    site.check(sent)
    assert count(site.url, "SELECT count(DISTINCT stream) FROM positions") == 2


@pytest.mark.kafka
def test_records_deleted_before_they_were_read_are_the_only_ones_missing(site: Site, run_once: RunOnce) -> None:
    """The log starts behind the stored position: reading goes on at the earliest record that is left."""
    config = site.config()
    sent = site.produce(messages(150, seed=26))
    assert run_once(config) == 0
    sent += site.produce(messages(150, seed=27))
    admin = KafkaAdminClient(bootstrap_servers=site.broker.servers)
    try:
        admin.delete_records({TopicPartition(site.topic, 0): 220})
    finally:
        admin.close()
    assert run_once(config) == 0
    site.check([*sent[:150], *sent[220:]])


@pytest.mark.kafka
def test_a_renamed_source_with_its_id_space_counts_nothing_again(site: Site, run_once: RunOnce) -> None:
    """The new name has no position, and its new group no offset: all is read again, and all was seen before."""
    sent = site.produce(messages(150, seed=28, bad_every=1000))
    assert run_once(site.config()) == 0
    site.source |= {"name": "renamed", "id_space": "posts", "group_id": site.broker.new_name("group")}
    sent += site.produce(messages(50, seed=29, bad_every=1000))
    assert run_once(site.config()) == 0
    assert count(site.url, "SELECT next_offset FROM positions WHERE source = 'renamed'") == 200
    assert count(site.url, "SELECT count(*) FROM posts WHERE source = 'renamed'") == 50
    assert n_posts(site.url) == len({message.text for message, _ in sent})
    check_totals(site.url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def wide_site(request: pytest.FixtureRequest, real_kafka: Broker, tmp_path: Path, tiny_bundle: str) -> Site:
    """A topic of two partitions and a database of each kind that may be dropped."""
    return Site(real_kafka, new_url(request, request.param), tmp_path, tiny_bundle, 2)


@pytest.fixture
def narrow_sites(
    request: pytest.FixtureRequest, real_kafka: Broker, tmp_path: Path, tiny_bundle: str
) -> dict[str, Site]:
    """Topics of one partition, one to a database of each kind."""
    sites = {}
    for kind in ("sqlite", "postgresql"):
        (tmp_path / kind).mkdir()
        sites[kind] = Site(real_kafka, new_url(request, kind), tmp_path / kind, tiny_bundle, 1)
    return sites


def new_url(request: pytest.FixtureRequest, kind: str) -> str:
    """A database of this kind."""
    if kind == "sqlite":
        url: str = request.getfixturevalue("sqlite_url")
        return url
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create()


def dump(url: str) -> str:
    """Keep the database as it is now."""
    if not url.startswith("sqlite"):
        return copied_database(url)
    path = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (f"{path}.dump",))
    return f"{path}.dump"


def restore(url: str, dumped: str) -> None:
    """Put what was kept in its place."""
    if not url.startswith("sqlite"):
        restore_database(url, dumped)
        return
    path = Path(url.removeprefix("sqlite:///"))
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(dumped, path)


@pytest.mark.kafka
def test_partitions_that_a_dump_has_no_posts_of_lose_none_by_its_restore(wide_site: Site, run_once: RunOnce) -> None:
    """In one partition nothing had come when the dump was made, and one was added after it. The group's offsets are
    ahead of what is restored, and both are read from where their reading began."""
    site = wide_site
    config = site.config()
    sent = site.produce(messages(150, n_partitions=1, seed=34))
    assert run_once(config) == 0
    dumped = dump(site.url)
    admin = KafkaAdminClient(bootstrap_servers=site.broker.servers)
    try:
        admin.create_partitions({site.topic: 3})
    finally:
        admin.close()
    sent += site.produce(messages(150, n_partitions=3, seed=35))
    assert run_once(config) == 0
    site.check(sent)
    restore(site.url, dumped)
    assert site.n_records() == 150
    assert run_once(config) == 0
    site.check(sent)


@pytest.mark.kafka
@pytest.mark.postgres
def test_offsets_that_are_used_anew_bring_new_posts(narrow_sites: dict[str, Site], run_once: RunOnce) -> None:
    """The broker lost the end of its log after it was read: what it writes there then counts, with and without ids,
    what it had before counts once, and so it stays however often all of it is read. The second time the log has grown
    past the stored position, as if nothing had happened: the leader epoch tells. Each refused record is a dead letter
    of its own, also those that had the same offset one after the other."""
    for site in narrow_sites.values():
        site.produce(messages(100, seed=36, bad_every=1000))
        site.produce(messages(60, seed=37, bad_every=1000))
        assert run_once(site.config()) == 0
    lose_tails(narrow_sites, 100)
    for site in narrow_sites.values():
        site.produce(messages(50, seed=38, bad_every=1000))
        for _ in range(2):
            assert run_once(site.config()) == 0
            assert n_posts(site.url) == 210
            move_back(site.url)
    sent = {kind: site.produce(messages(30, seed=39, bad_every=10)) for kind, site in narrow_sites.items()}
    for site in narrow_sites.values():
        assert run_once(site.config()) == 0
    lose_tails(narrow_sites, 150)
    for kind, site in narrow_sites.items():
        check_used_anew(site, sent[kind] + site.produce(messages(60, seed=40, bad_every=10)), run_once)


def lose_tails(sites: dict[str, Site], offset: int) -> None:
    """One crash of the broker that they share: each log ends before this offset."""
    [broker] = {site.broker for site in sites.values()}
    broker.lose_tails({site.topic: offset for site in sites.values()})


def check_used_anew(site: Site, sent: list[tuple[Message, int]], run_once: RunOnce) -> None:
    """What was lost and what was written in its place counts, however often all of it is read."""
    for _ in range(2):
        assert run_once(site.config()) == 0
        assert n_posts(site.url) == 210 + len({message.text for message, _ in sent if message.text})
        assert count(site.url, "SELECT count(*) FROM dead_letters") == 3 + 6
    assert count(site.url, "SELECT count(*) FROM dead_letters WHERE position = 159") == 2
    assert count(site.url, "SELECT next_offset FROM positions") == site.n_records() == 210
    check_totals(site.url)


def move_back(url: str) -> None:
    """What `sources seek --to-beginning` does."""
    db = Database(url)
    [at] = positions.load(db, "posts")
    positions.reset(db, "posts", at, 0)
    db.close()


def folder_config(folder: Path, bundle: str, **source: Any) -> Path:
    """A drop folder and the SQLite file beside it."""
    section = {"name": "inbox", "kind": "drop_folder", "path": "inbox", "settle_s": 0.0}
    return write_config(folder, sources=[section | source], scoring={"bundle": bundle})


def test_files_put_again_after_a_restore_bring_what_the_dump_lacks(
    tmp_path: Path, tiny_bundle: str, run_once: RunOnce
) -> None:
    """A SQLite file from before the second export: every file of done/ once more, and each row is there once."""
    config = folder_config(tmp_path, tiny_bundle)
    first, second = rows(300, seed=31), rows(300, seed=32)
    drop(tmp_path, "first.csv", csv_bytes(first))
    assert run_once(config) == 0
    with closing(sqlite3.connect(tmp_path / "data" / "sentiment.db")) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))
    n_first = n_posts(url_in(tmp_path))
    drop(tmp_path, "second.csv", csv_bytes(second))
    assert run_once(config) == 0
    n_both = n_posts(url_in(tmp_path))
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "backup.db").rename(tmp_path / "data" / "sentiment.db")
    assert n_posts(url_in(tmp_path)) == n_first < n_both
    for number, path in enumerate((tmp_path / "inbox" / "done").glob("*.csv")):
        drop(tmp_path, f"again-{number}.csv", path.read_bytes())
    assert run_once(config) == 0
    assert n_posts(url_in(tmp_path)) == n_both
    check_totals(url_in(tmp_path))


def test_a_renamed_folder_with_its_id_space_counts_nothing_again(
    tmp_path: Path, tiny_bundle: str, run_once: RunOnce
) -> None:
    """The same export through a source of another name: rows with and without ids were all seen before."""
    content = csv_bytes(
        [row | {"id": str(number) if number % 2 else ""} for number, row in enumerate(rows(200, seed=33))],
        ("created_at", "text", "user_id", "brand", "id"),
    )
    drop(tmp_path, "export.csv", content)
    assert run_once(folder_config(tmp_path, tiny_bundle)) == 0
    n_before = n_posts(url_in(tmp_path))
    drop(tmp_path, "export.csv", content)
    assert run_once(folder_config(tmp_path, tiny_bundle, name="exports", id_space="inbox")) == 0
    assert n_posts(url_in(tmp_path)) == n_before
    assert count(url_in(tmp_path), "SELECT sum(seen_before) FROM files WHERE source = 'exports'") == 200
    drop(tmp_path, "export.csv", content)
    assert run_once(folder_config(tmp_path, tiny_bundle, name="others")) == 0
    assert n_posts(url_in(tmp_path)) == 2 * n_before
