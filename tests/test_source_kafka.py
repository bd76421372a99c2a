"""What only Kafka does: rebalances, outages, trimmed and re-created topics, settings.

On Tansu, and on the real broker where logs must last.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from feeds import KafkaFeed, message, now, parser_of, texts_of, wait_for
from fixtures_kafka import REFUSED_SOCKETS, Broker, kafka_tool
from kafka.errors import TopicAlreadyExistsError

from monitor.config import KafkaSection
from monitor.errors import ConfigError, SourceUnavailable
from monitor.posts import Batch, DeadLetter, Post, Reason, Saved
from monitor.sources.kafka import KafkaTopics
from monitor.sources.memory import MemoryPositions

pytestmark = [pytest.mark.kafka, *REFUSED_SOCKETS]


@pytest.fixture
def feeds() -> Iterator[Callable[[Broker], KafkaFeed]]:
    """Makes open feeds, closed at the end."""
    made: list[KafkaFeed] = []

    def make(broker: Broker, **section: Any) -> KafkaFeed:
        made.append(KafkaFeed(broker, **section))
        made[-1].source.open()
        return made[-1]

    yield make
    for feed in made:
        feed.source.close()


def section_of(**settings: Any) -> KafkaSection:
    """A Kafka section with no broker behind it."""
    return KafkaSection(
        name="posts", kind="kafka", **{"bootstrap_servers": ["127.0.0.1:1"], "topics": ["posts"]} | settings
    )


def source_of(section: KafkaSection, **settings: Any) -> KafkaTopics:
    """A source with positions of its own."""
    return KafkaTopics(section, parser_of(section), MemoryPositions(), now, **settings)


def poll(source: KafkaTopics) -> Batch:
    """One poll, as the batch it would make."""
    polled = source.poll(500, 0.1)
    return Batch("kafka", polled.records, polled.positions, generation=polled.generation, starts=polled.starts)


# ---- records ---------------------------------------------------------------------------------------------------------


def test_places_name_the_topics_incarnation(tansu: Broker, feeds: Callable[..., KafkaFeed]) -> None:
    """stream is the topic with its id; the label for people has topic, partition and offset."""
    feed = feeds(tansu)
    feed.put("1")
    (post,) = feed.next().posts
    topic, _, topic_id = post.place.stream.rpartition("@")
    assert (topic, len(topic_id)) == (feed.topic, 36)
    assert post.label_of_place == f"{feed.topic}:0:0"


def test_bad_messages_between_good_ones(tansu: Broker, feeds: Callable[..., KafkaFeed]) -> None:
    """Null values, other encodings and other JSON are dead letters with their bytes and offsets."""
    feed = feeds(tansu)
    values = [message("1"), None, b"\xff\xfe", b"[]", b"{", message("2", id=1.5), message("3", id="x")]
    tansu.produce(feed.topic, values)
    records = feed.read(len(values))
    assert texts_of(records) == ["1", "3"]
    letters = [record for record in records if isinstance(record, DeadLetter)]
    assert [letter.reason for letter in letters] == [
        Reason.NULL_VALUE, Reason.BAD_ENCODING, Reason.BAD_JSON, Reason.BAD_JSON, Reason.BAD_ID,
    ]  # fmt: skip
    assert [letter.raw for letter in letters] == [value or b"" for value in values[1:6]]
    assert [letter.place.offset for letter in letters] == [1, 2, 3, 4, 5]


# ---- the group -------------------------------------------------------------------------------------------------------


def test_a_second_member_takes_partitions_and_gives_them_back(real_kafka: Broker) -> None:
    """After a rebalance nothing older is current, and what was not saved comes to whoever has its partition now."""
    feed = KafkaFeed(real_kafka)
    topic = real_kafka.create_topic(real_kafka.new_name("shared"), 2)
    feed.section = feed.section.model_copy(update={"topics": [topic]})
    first, second = Member(feed), Member(feed)
    try:
        first.source.open()
        for partition in (0, 1):
            real_kafka.produce(topic, [message(f"{partition}")], partition)
        wait_for(first.read, lambda seen: seen == {"0", "1"})
        assert first.source.is_current(first.latest)
        old = first.latest
        first.seen.clear()
        second.source.open()
        with ThreadPoolExecutor() as pool:  # side by side, as replicas do
            wait_for(lambda: [*pool.map(Member.read, (first, second))], lambda seen: [*map(len, seen)] == [1, 1])
        assert first.seen | second.seen == {"0", "1"}
        assert not first.source.is_current(old)
        second.source.close()
        wait_for(first.read, lambda seen: seen == {"0", "1"})
    finally:
        first.source.close()
        second.source.close()


class Member:
    """One source of a group, and the texts that came to it."""

    def __init__(self, feed: KafkaFeed) -> None:
        self.source = feed.make()
        self.seen: set[str] = set()
        self.latest = Batch("kafka", [], {})

    def read(self) -> set[str]:
        batch = poll(self.source)
        if batch.records:
            self.latest = batch
            self.seen.update(texts_of(batch.records))
        return self.seen


def test_a_new_store_goes_on_at_the_groups_offset(tansu: Broker, feeds: Callable[..., KafkaFeed]) -> None:
    """Where SQL knows nothing of a topic, the group's committed offset counts."""
    feed = feeds(tansu)
    feed.put("1", "2", "3")
    feed.save(feed.next(2))
    feed.source.close()
    feed.positions.offsets.clear()
    feed.source = feed.make()
    feed.source.open()
    assert texts_of(feed.read(1)) == ["3"]
    assert feed.source.n_refused_commits == 0


def test_every_partition_of_a_new_topic_gets_its_position_before_it_is_read(real_kafka: Broker) -> None:
    """At the group's offset, else the earliest, also where nothing comes: a dump made from then on has them all. What
    the group's offset became meanwhile counts no more, and a partition without a position begins at its earliest."""
    feed = KafkaFeed(real_kafka)
    feed.topic = real_kafka.create_topic(real_kafka.new_name("wide"), 3)
    feed.section = feed.section.model_copy(update={"topics": [feed.topic]})
    real_kafka.produce(feed.topic, [message("0.0"), message("0.1")], 0)
    real_kafka.produce(feed.topic, [message("1.0")], 1)
    feed.restart()
    feed.read(3)
    assert {at.partition: offset for at, offset in feed.positions.offsets.items()} == {0: 2, 1: 1, 2: 0}
    feed.positions.offsets.clear()  # another database
    feed.restart()
    wait_for(feed.poll, lambda _: len(feed.positions.offsets) == 3)
    assert {at.partition: offset for at, offset in feed.positions.offsets.items()} == {0: 2, 1: 1, 2: 0}
    dumped = dict(feed.positions.offsets)
    real_kafka.produce(feed.topic, [message("2.0")], 2)
    assert texts_of(feed.read(1)) == ["2.0"]
    feed.source.close()
    feed.positions.offsets = {at: offset for at, offset in dumped.items() if at.partition != 1}
    feed.source = feed.make()
    feed.source.open()
    assert sorted(texts_of(feed.read(2))) == ["1.0", "2.0"]
    feed.source.close()


def test_a_store_set_back_to_before_a_source_began_is_filled_from_the_beginning(tansu: Broker) -> None:
    """Restored under a running daemon, which remembers that there were positions: the group's offset is ahead."""
    feed, clock = KafkaFeed(tansu), Ahead()
    source = KafkaTopics(feed.section, parser_of(feed.section), feed.positions, now, monotonic=clock)
    source.open()
    feed.put("1", "2")
    batch = wait_for(lambda: poll(source), lambda batch: len(batch.records) == 2)
    feed.positions.offsets.update(batch.positions)
    source.commit(batch, Saved(2, 0, {}))
    feed.positions.offsets.clear()
    clock.ahead_s += 11
    again = wait_for(lambda: poll(source), lambda batch: bool(batch.records))
    assert texts_of(again.records) == ["1", "2"]
    source.close()


def test_a_pause_by_another_replica_is_noticed(tansu: Broker) -> None:
    """The store is where a pause lives; every replica looks there now and then."""
    feed, clock = KafkaFeed(tansu), Ahead()
    source = KafkaTopics(feed.section, parser_of(feed.section), feed.positions, now, monotonic=clock)
    source.open()
    feed.put("1")
    batch = wait_for(lambda: poll(source), lambda batch: bool(batch.records))
    feed.positions.offsets.update(batch.positions)
    feed.positions.paused_reason = "too many were refused elsewhere"
    clock.ahead_s += 11
    poll(source)
    assert source.paused() == "too many were refused elsewhere"
    assert source.reached_end()
    assert source.caught_up()
    source.close()


def test_positions_that_went_back_are_noticed_while_nothing_comes(tansu: Broker) -> None:
    """A database was restored under a daemon that saved nothing since its start: it reads again from there."""
    feed, clock = KafkaFeed(tansu), Ahead()
    feed.source.open()
    feed.put("1", "2", "3")
    feed.read(3)
    feed.source.close()
    source = KafkaTopics(feed.section, parser_of(feed.section), feed.positions, now, monotonic=clock)
    source.open()
    wait_for(lambda: poll(source), lambda _: source.caught_up())
    [at] = feed.positions.offsets
    feed.positions.offsets[at] -= 2
    clock.ahead_s += 11
    batch = wait_for(lambda: poll(source), lambda batch: bool(batch.records))
    assert texts_of(batch.records) == ["2", "3"]
    assert batch.starts == feed.positions.offsets
    feed.positions.offsets.update(batch.positions)
    source.commit(batch, Saved(2, 0, {}))
    clock.ahead_s += 11
    assert poll(source).records == []
    assert source.is_current(batch)
    source.close()


# ---- outages ---------------------------------------------------------------------------------------------------------


class Ahead:
    """A monotonic clock that a test moves ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def test_no_broker_at_the_start() -> None:
    """A plain sentence with the servers, in seconds, never the password, and nothing is left running."""
    section = section_of(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        username="sam",
        password_from="P",
        options={"bootstrap_timeout_ms": 500},
    )
    source = source_of(section, password="s3cret-word")
    with pytest.raises(SourceUnavailable, match=r"no Kafka broker answers at 127\.0\.0\.1:1$") as caught:
        source.open()
    assert "s3cret-word" not in repr(caught.value)
    assert "sentiment-monitor-posts" not in repr(threading.enumerate())
    source.close()


def test_a_frozen_broker_is_told_and_recovered_from(tansu: Broker) -> None:
    """A poll of a broker that does not answer looks like an idle one, so it is asked.

    Nothing is lost and no restart needed.
    """
    feed, clock = KafkaFeed(tansu), Ahead()
    source = KafkaTopics(feed.section, parser_of(feed.section), feed.positions, now, monotonic=clock)
    source.open()
    feed.put("1")
    first = wait_for(lambda: poll(source), lambda batch: bool(batch.records))
    feed.positions.offsets.update(first.positions)
    tansu.freeze()
    try:
        with suppress(SourceUnavailable):
            for _ in range(3):
                source.poll(10, 0.1)  # what it answered before lies in the socket, and would count as heard just now
        clock.ahead_s += 6
        for _ in range(2):
            with pytest.raises(SourceUnavailable, match="no Kafka broker answers"):
                source.poll(10, 0.1)
        source.keep_alive()
    finally:
        tansu.thaw()
    feed.put("2")
    seen: list[str] = []

    def read() -> list[str]:
        try:
            seen.extend(texts_of(poll(source).records))
        except SourceUnavailable:
            time.sleep(0.1)
        return seen

    wait_for(read, lambda texts: "2" in texts)
    assert set(seen) <= {"1", "2"}
    source.close()


def test_a_killed_broker_that_comes_back(real_kafka: Broker, feeds: Callable[..., KafkaFeed]) -> None:
    """Log, topics and offsets are still there, and reading goes on by itself."""
    feed = feeds(real_kafka)
    feed.put("1", "2")
    feed.save(feed.next())
    real_kafka.kill()
    feed.source.keep_alive()
    real_kafka.start()
    feed.put("3")
    seen: list[str] = []

    def read() -> list[str]:
        try:
            seen.extend(texts_of(feed.poll().records))
        except SourceUnavailable:
            time.sleep(0.1)
        return seen

    wait_for(read, lambda texts: "3" in texts, 40)
    assert set(seen) <= {"1", "2", "3"}


def test_a_topic_that_does_not_exist_yet(real_kafka: Broker) -> None:
    """It is waited for in plain words and read once it is there."""
    feed = KafkaFeed(real_kafka)
    name = real_kafka.new_name("later")
    section = feed.section.model_copy(update={"topics": [name]})
    source = KafkaTopics(section, parser_of(section), feed.positions, now)
    source.open()
    with pytest.raises(
        SourceUnavailable, match=f"the topic {name} does not exist at 127.0.0.1:.*; it is read once it does"
    ):
        source.poll(10, 0.1)
    real_kafka.create_topic(name)
    real_kafka.produce(name, [message("1")])
    seen: list[str] = []

    def read() -> list[str]:
        try:
            seen.extend(texts_of(poll(source).records))
        except SourceUnavailable:
            time.sleep(0.1)
        return seen

    wait_for(read, lambda texts: texts == ["1"])
    source.close()


# ---- logs that change under a reader ---------------------------------------------------------------------------------


def test_records_that_were_deleted_unread_are_counted(
    real_kafka: Broker, feeds: Callable[..., KafkaFeed], tmp_path: Path
) -> None:
    """A position below the log's start goes on at the earliest, after a restart and while reading."""
    feed = feeds(real_kafka)
    feed.put(*map(str, range(10)))
    feed.save(feed.next(2))
    feed.source.close()
    _delete_before(real_kafka, feed.topic, 5, tmp_path)
    feed.source = feed.make()
    feed.source.open()
    assert texts_of(feed.next(1).records) == ["5"]
    assert feed.source.n_missed == 3
    feed.source.rewind()  # to position 2 again, while reading
    assert texts_of(feed.read(5)) == ["5", "6", "7", "8", "9"]


def _delete_before(broker: Broker, topic: str, offset: int, folder: Path) -> None:
    wanted = folder / "delete.json"
    wanted.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": offset}]}))
    kafka_tool("delete-records", "--bootstrap-server", broker.servers[0], "--offset-json-file", str(wanted))


def test_a_recreated_topic_is_a_new_stream_from_its_beginning(
    real_kafka: Broker, feeds: Callable[..., KafkaFeed]
) -> None:
    """Neither the old stream's position nor the group's offset is taken for the new topic's."""
    feed = feeds(real_kafka)
    feed.put("old 1", "old 2", "old 3")
    (old,) = {record.place.stream for record in feed.read(3)}
    real_kafka.delete_topic(feed.topic)
    wait_for(lambda: _created(real_kafka, feed.topic), bool)
    feed.put("new 1", "new 2", "new 3", "new 4")
    seen: list[Any] = []

    def read() -> list[str]:
        try:
            seen.extend(feed.poll().records)
        except SourceUnavailable:
            time.sleep(0.1)
        return texts_of(seen)

    wait_for(read, lambda texts: len(texts) == 4, 40)
    assert texts_of(seen) == ["new 1", "new 2", "new 3", "new 4"]
    assert old not in {record.place.stream for record in seen}
    assert feed.source.n_missed == 0


def _created(broker: Broker, topic: str) -> bool:
    try:
        broker.create_topic(topic)
    except TopicAlreadyExistsError:  # the old one is still on its way out
        time.sleep(0.05)
        return False
    return True


def test_a_position_beyond_the_end_reads_from_the_beginning(
    real_kafka: Broker, feeds: Callable[..., KafkaFeed]
) -> None:
    """Brokers that lost records write their offsets anew.

    The keys absorb what was counted, and the stored position goes back.
    """
    feed = feeds(real_kafka)
    feed.put("1", "2")
    (partition,) = feed.next().positions
    feed.positions.offsets[partition] = 1000
    feed.restart()
    assert texts_of(feed.next().records) == ["1", "2"]
    assert feed.positions.offsets[partition] == 0


def test_a_log_that_lost_its_end_under_a_reader_is_read_from_there(
    real_kafka: Broker, feeds: Callable[..., KafkaFeed]
) -> None:
    """Also where it has grown past the reader's position again before anybody looked."""
    written = (["4", "five", "six", "seven", "eight"], ["4", "five"])
    readers = [feeds(real_kafka) for _ in written]
    keys = []
    for reader in readers:
        reader.put("1", "2", "3")
        reader.put("4", "5", "6")
        keys.append({record.post_key for record in reader.read(6) if isinstance(record, Post)})
    real_kafka.lose_tails({reader.topic: 3 for reader in readers})
    for reader, texts in zip(readers, written, strict=True):
        reader.put(*texts)
    seen: list[list[Any]] = [[] for _ in readers]

    def read() -> list[set[str]]:
        for reader, records in zip(readers, seen, strict=True):
            try:
                records.extend(reader.poll().records)
            except SourceUnavailable:
                time.sleep(0.1)
        return [set(texts_of(records)) for records in seen]

    wait_for(read, lambda found: all(texts[-1] in of for texts, of in zip(written, found, strict=True)), 40)
    new = [{post.text for post in posts if post.post_key not in old} for posts, old in zip(seen, keys, strict=True)]
    assert new == [set(texts[1:]) for texts in written]


def test_a_log_that_loses_its_end_under_an_idle_reader_is_read_from_there(
    real_kafka: Broker, feeds: Callable[..., KafkaFeed]
) -> None:
    """Its client has heard nothing but empty answers since it was started, and its cluster was restarted without any
    loss meanwhile, which moves nothing. No rebalance helps: the session lasts longer than the outage."""
    feed = feeds(real_kafka, options={"session_timeout_ms": 30_000, "metadata_max_age_ms": 1000})
    feed.put("1", "2", "3")
    feed.put("4", "5", "6")
    feed.read(6)
    feed.restart()

    def poll() -> list[Any]:
        with suppress(SourceUnavailable):
            batch = feed.poll()
            feed.save(batch)
            return batch.records
        time.sleep(0.1)
        return []

    def idle() -> None:
        wait_for(lambda: (poll(), feed.source.caught_up())[1], bool)
        assert not [record for _ in range(10) for record in poll()]

    idle()
    real_kafka.kill()
    real_kafka.start()
    idle()
    generation = feed.poll().generation
    real_kafka.lose_tails({feed.topic: 3})
    feed.put("five", "six", "seven", "eight")
    seen: list[Any] = []

    def read() -> list[str]:
        seen.extend(poll())
        return texts_of(seen)

    wait_for(read, lambda texts: "eight" in texts, 40)
    assert texts_of(seen) == ["five", "six", "seven", "eight"]
    [(stream, offset)] = feed.positions.lost
    assert (offset, feed.poll().generation) == (3, generation + 1)
    assert feed.positions.offsets == {stream: 7}


# ---- settings --------------------------------------------------------------------------------------------------------


def test_settings_that_cannot_work_are_refused_at_once(tmp_path: Path) -> None:
    """Before anything starts, and by name."""
    with pytest.raises(
        ConfigError, match=r"sources.posts.options: kafka-python has no consumer option fetch_max_byte$"
    ):
        source_of(section_of(options={"fetch_max_byte": 1}))
    sasl = section_of(
        security_protocol="SASL_SSL", sasl_mechanism="PLAIN", username="u", password_from="KAFKA_PASSWORD"
    )
    with pytest.raises(ConfigError, match="the password KAFKA_PASSWORD is not set"):
        source_of(sasl)
    with pytest.raises(ConfigError, match=r"ssl_cafile: there is no file .*missing\.pem"):
        source_of(section_of(security_protocol="SSL", ssl_cafile="missing.pem"), base_dir=tmp_path)
    with pytest.raises(ConfigError, match="Kafka options are not usable"):
        source_of(section_of(options={"request_timeout_ms": 1})).open()
