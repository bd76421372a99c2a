"""What people report about consumers of other programs, tried on ours: members that are thrown out or stand still,
offsets that do not move, lag that never ends.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from feeds import FAST_GROUP, KafkaFeed, message, texts_of, wait_for
from fixtures_kafka import Broker
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from monitor.errors import StoreUnavailable, TooManyRefused
from monitor.posts import Batch, Record, Saved, StreamPartition
from monitor.sources.kafka import KafkaTopics
from monitor.sources.kafka_client import Client
from monitor.sources.kafka_progress import Progress
from monitor.sources.kafka_starts import Start

pytestmark = pytest.mark.kafka

POLL_INTERVAL_S = 2.0  #: a member that does not poll for so long is thrown out


@pytest.fixture
def make_feed(real_kafka: Broker) -> Iterator[Callable[..., KafkaFeed]]:
    """Makes feeds with an open source on the session's Apache Kafka, with these options besides."""
    made: list[KafkaFeed] = []

    def make(**options: Any) -> KafkaFeed:
        made.append(KafkaFeed(real_kafka, options=FAST_GROUP | options))
        made[-1].source.open()
        return made[-1]

    yield make
    for feed in made:
        feed.source.close()


def group_offset(feed: KafkaFeed, partition: int = 0) -> int | None:
    """What lag tools see."""
    group = feed.section.group_id
    consumer = KafkaConsumer(bootstrap_servers=feed.broker.servers, group_id=group, enable_auto_commit=False)
    try:
        offset: int | None = consumer.committed(TopicPartition(feed.section.topics[0], partition))
    finally:
        consumer.close(autocommit=False)
    return offset


def batch_of(source: KafkaTopics) -> Batch:
    """One poll, as the batch it would make."""
    polled = source.poll(500, 0.1)
    return Batch("kafka", polled.records, polled.positions, generation=polled.generation)


def test_a_slow_batch_and_a_quiet_topic_cost_no_membership(make_feed: Callable[..., KafkaFeed]) -> None:
    """A batch is busy for longer than a member may be silent, then nothing comes for longer than a session: the group
    moves nothing and takes the commit.
    """
    feed = make_feed(max_poll_interval_ms=int(POLL_INTERVAL_S * 1000))
    feed.put("1")
    batch = feed.next()
    busy_until = time.monotonic() + 1.5 * POLL_INTERVAL_S
    while time.monotonic() < busy_until:
        feed.source.keep_alive()
        time.sleep(0.01)
    assert feed.source.is_current(batch)
    feed.save(batch)
    quiet_until = time.monotonic() + 1.5 * FAST_GROUP["session_timeout_ms"] / 1000
    while time.monotonic() < quiet_until:
        assert feed.poll().records == []
    assert feed.source.is_current(batch)
    assert feed.source.n_refused_commits == 0
    assert group_offset(feed) == 1


def test_a_member_that_was_thrown_out_comes_back(make_feed: Callable[..., KafkaFeed]) -> None:
    """Silent for too long: what it had in hand is not current any more, nothing is lost, and commits count again."""
    feed = make_feed(max_poll_interval_ms=int(POLL_INTERVAL_S * 1000))
    feed.put("1", "2")
    batch = feed.next(1)
    time.sleep(1.5 * POLL_INTERVAL_S)
    wait_for(lambda: (feed.poll(1), feed.source.is_current(batch))[1], lambda is_current: not is_current)
    feed.source.rewind()  # whatever those polls brought
    assert texts_of(feed.read(2)) == ["1", "2"]
    wait_for(lambda: (feed.poll(), group_offset(feed))[1], lambda offset: offset == 2)


def test_a_member_that_hangs_holds_no_one_up_for_long(make_feed: Callable[..., KafkaFeed]) -> None:
    """Its client lives and sends heartbeats, but nobody polls: the group waits for it as long as a member may be silent
    (a minute unless configured), then another one reads.
    """
    assert Client(make_feed().section, None, Path())._config["max_poll_interval_ms"] == 60_000
    feed = make_feed(max_poll_interval_ms=int(POLL_INTERVAL_S * 1000))
    feed.put("1")
    assert texts_of(feed.next(1).records) == ["1"]
    other = feed.make()
    try:
        other.open()
        assert texts_of(wait_for(lambda: batch_of(other).records, bool, 5 * POLL_INTERVAL_S)) == ["1"]
    finally:
        other.close()


def test_an_answer_to_a_join_counts_though_nobody_polled_when_it_came(
    make_feed: Callable[..., KafkaFeed], caplog: pytest.LogCaptureFixture
) -> None:
    """A member whose batches are busy polls for no time at all, now and then: it gets into the group all the same, at
    the first join that the group takes. (A member's very first join is only answered with its id.)
    """
    feed = make_feed()
    client = Client(feed.section, None, Path())
    client.open()
    try:
        with caplog.at_level(logging.INFO, "kafka.coordinator"):
            deadline = time.monotonic() + 10
            while not client.moves.has_joined and time.monotonic() < deadline:
                client.poll(1, 0.0)
                time.sleep(0.3)
        joins = [record for record in caplog.records if record.getMessage().startswith("Successfully joined")]
        assert client.moves.has_joined
        assert len(joins) == 1
    finally:
        client.close()


def test_a_rebalance_while_records_are_held_back(make_feed: Callable[..., KafkaFeed]) -> None:
    """The store is away, so nothing is fetched; another member comes and goes meanwhile: every partition is read
    afterwards, each record once, and the group's offsets follow.
    """
    feed = make_feed()
    topic = feed.broker.create_topic(feed.broker.new_name("held"), 2)
    feed.section = feed.section.model_copy(update={"topics": [topic]})
    held, other = feed.make(), feed.make()
    try:
        held.open()
        for partition in (0, 1):
            feed.broker.produce(topic, [message(f"{partition}")], partition)
        wait_for(lambda: batch_of(held).records, bool)
        other.open()

        def read_beside() -> list[Record]:
            held.keep_alive()
            return batch_of(other).records

        wait_for(read_beside, bool)
        other.close()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            held.keep_alive()
            time.sleep(0.01)
        seen: list[str] = []

        def read() -> list[str]:
            batch = batch_of(held)
            seen.extend(texts_of(batch.records))
            feed.positions.offsets.update(batch.positions)
            if batch.records:
                held.commit(batch, Saved(len(batch.posts), 0, {}))
            return sorted(seen)

        wait_for(read, lambda texts: texts == ["0", "1"])
        wait_for(lambda: (read(), [group_offset(feed, n) for n in (0, 1)])[1], lambda offsets: offsets == [1, 1])
        assert read() == ["0", "1"]
    finally:
        held.close()
        other.close()


@contextmanager
def another_member(feed: KafkaFeed, held: KafkaTopics, poll: Callable[[], object]) -> Iterator[None]:
    """A member of the group that comes, and goes at the end; `poll` is how `held` lives meanwhile.

    `held` has heard of both rebalances when it begins and when it ends.
    """
    topic, servers = feed.section.topics[0], feed.broker.servers
    options = {"group_id": feed.section.group_id, "enable_auto_commit": False, "metrics_enabled": False} | FAST_GROUP
    n_moves = held._client.moves.n
    other = KafkaConsumer(topic, bootstrap_servers=servers, **options)
    try:
        wait_for(lambda: (poll(), other.poll(50), other.assignment())[2], bool)
        wait_for(lambda: (poll(), other.poll(50), held._client.moves.n)[2], lambda n: n > n_moves)
        yield
    finally:
        n_moves = held._client.moves.n
        other.close(autocommit=False)
    wait_for(lambda: (poll(), held._client.moves.n)[1], lambda n: n > n_moves)


def two_partitions(feed: KafkaFeed) -> KafkaTopics:
    """An open source of a topic with two partitions, one record read and saved."""
    topic = feed.broker.create_topic(feed.broker.new_name("two"), 2)
    feed.section = feed.section.model_copy(update={"topics": [topic]})
    source = feed.make()
    source.open()
    feed.broker.produce(topic, [message("first")], 0)
    batch = wait_for(lambda: batch_of(source), lambda batch: bool(batch.records))
    feed.positions.offsets.update(batch.positions)
    return source


def read_rest(feed: KafkaFeed, source: KafkaTopics, n: int) -> list[str]:
    """Texts from here on, saved as they come, until there are `n` and no more follow."""
    seen: list[str] = []

    def read() -> list[str]:
        batch = batch_of(source)
        seen.extend(texts_of(batch.records))
        feed.positions.offsets.update(batch.positions)
        return seen

    wait_for(read, lambda texts: len(texts) >= n)
    for _ in range(5):
        read()
    return sorted(seen)


def test_a_paused_source_stays_paused_through_rebalances(make_feed: Callable[..., KafkaFeed]) -> None:
    """Partitions that are taken away and given back come without the client's pause: nothing of them is read before
    the source is resumed, and then each record once.
    """
    feed = make_feed()
    held = two_partitions(feed)
    verdict = TooManyRefused(held.name, 60, 100)
    came: list[Record] = []
    try:
        feed.positions.paused_reason = verdict.sentence
        held.refuse(Batch("kafka", [], {}), verdict)
        held.rewind()
        for partition in (0, 1):
            feed.broker.produce(feed.section.topics[0], [message(f"{partition}")], partition)
        with another_member(feed, held, lambda: came.extend(batch_of(held).records)):
            assert held.paused() == verdict.sentence
        came.extend(batch_of(held).records)
        assert (came, held.paused()) == ([], verdict.sentence)
        feed.positions.paused_reason = None
        assert read_rest(feed, held, 2) == ["0", "1"]
    finally:
        held.close()


def test_a_rebalance_while_the_store_is_away_ends_nothing(make_feed: Callable[..., KafkaFeed]) -> None:
    """Where to begin cannot be looked up: polls say so and nothing is fetched from a wrong place; the client's listener
    raises nothing, and with the store back each record comes once.
    """
    feed = make_feed()
    held = two_partitions(feed)
    said: list[str] = []

    def poll() -> None:
        try:
            said.extend(texts_of(batch_of(held).records))
        except StoreUnavailable:
            said.append("away")

    try:
        feed.positions.away = True
        for partition in (0, 1):
            feed.broker.produce(feed.section.topics[0], [message(f"{partition}")], partition)
        with another_member(feed, held, poll):
            said.clear()  # before it, what it had could still be read
            for _ in range(3):
                poll()
        assert set(said) == {"away"}
        feed.positions.away = False
        assert read_rest(feed, held, 2) == ["0", "1"]
    finally:
        held.close()


def test_what_is_never_delivered_is_no_lag(make_feed: Callable[..., KafkaFeed]) -> None:
    """The marks of transactions and records of those given up take offsets: with nothing else behind them the source
    has caught up, its position is the log's end, and a restart reads nothing again.
    """
    feed = make_feed(isolation_level="read_committed")
    producer = KafkaProducer(bootstrap_servers=feed.broker.servers, transactional_id=feed.topic, metrics_enabled=False)
    try:
        producer.init_transactions()
        given_up = map(str, range(600))
        for texts, end in ((["1", "2"], producer.commit_transaction), (given_up, producer.abort_transaction)):
            producer.begin_transaction()
            for text in texts:
                producer.send(feed.topic, message(text), partition=0)
            producer.flush()  # else giving up drops what was not sent yet
            end()
    finally:
        producer.close()
    feed.source.mark_end()
    assert texts_of(feed.read(2)) == ["1", "2"]
    log_end = 2 + 1 + 600 + 1

    def lag() -> int:
        feed.save(feed.poll())
        return sum(feed.source.lag().values())

    wait_for(lag, lambda n: n == 0)
    assert feed.source.caught_up()
    assert feed.source.reached_end()
    assert list(feed.positions.offsets.values()) == [log_end]
    wait_for(lambda: (feed.poll(), group_offset(feed))[1], lambda offset: offset == log_end)
    feed.restart()
    assert feed.wait_for_nothing() == []


def test_lag_is_never_negative() -> None:
    """Ends are heard of now and then: the last one may lie before what was read since."""
    partition, stream = TopicPartition("posts", 0), StreamPartition("posts@1", 0)
    progress = Progress(lambda _: 3, time.monotonic)
    progress.begin({partition: Start(stream, offset=0, end=4)})
    assert progress.lag == {stream: 4}
    progress.jump(partition, 10)
    progress.advance({})
    assert progress.lag == {stream: 0}


@pytest.mark.parametrize("state", ["idle", "paused"])
def test_a_source_without_work_does_not_spin(make_feed: Callable[..., KafkaFeed], state: str) -> None:
    """A poll that brings nothing takes the time that it was given, also while the source is paused."""
    feed = make_feed()
    feed.put("1")
    batch = feed.next()
    feed.save(batch)
    if state == "paused":
        feed.positions.paused_reason = "too many were refused"
        feed.source.refuse(batch, TooManyRefused("posts", 80, 100))
    began = time.monotonic()
    for _ in range(5):
        assert feed.source.poll(500, 0.3).records == []
    assert time.monotonic() - began >= 5 * 0.3 * 0.8
