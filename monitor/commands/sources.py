"""`sources`: positions, lag, paused sources; let one read again, or from somewhere else."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitor.commands.options import config_option, example, json_option, load_config, open_store, quiet_libraries
from monitor.commands.tables import print_rows

if TYPE_CHECKING:
    from monitor.brokers import Brokers
    from monitor.config import AnySource, Config, KafkaSection
    from monitor.posts import StreamPartition
    from monitor.store.database import Database

_COLUMNS = ("source", "kind", "stream", "partition", "next_offset", "lag", "paused")


@click.group(
    short_help="Positions and lag; resume a source or move it", epilog=example("sources list", "sources resume posts")
)
def sources() -> None:
    """Look at the positions of the sources and change them on purpose."""


@sources.command(
    "list",
    short_help="List positions, lag and what is paused",
    epilog=example("sources list", "sources list --json"),
)
@config_option
@json_option
def list_(config_path: Path, *, as_json: bool) -> None:
    """List every source: where it goes on, how much waits there (lag), and why it is paused.

    Lag is records for Kafka and files for a drop folder; it is empty where a broker does not answer.
    """
    config = load_config(config_path)
    with open_store(config) as db, quiet_libraries():
        rows = [row for source in config.sources for row in _rows_of(source, config, db)]
        rows += _unconfigured(config, db)
    print_rows(_COLUMNS, rows, as_json=as_json)


@sources.command(epilog=example("sources resume posts"))
@config_option
@click.argument("name")
def resume(config_path: Path, name: str) -> None:
    """Let a paused source read again.

    It is judged on what comes from now on. A running daemon notices within seconds.
    """
    from monitor.store import positions

    config = load_config(config_path)
    _source(config, name)
    with open_store(config) as db:
        n_paused = positions.resume(db, name)
        positions.reset_outcomes(db, name)
    click.echo(f"{name} reads again" if n_paused else f"{name} was not paused")


@sources.command(
    epilog=example(
        "sources seek posts --to-beginning",
        "sources seek posts --to-offset 1200 --partition 3",
        "sources seek posts --to-time 2026-11-20T00:00:00+00:00",
    )
)
@config_option
@click.argument("name")
@click.option("--to-beginning", is_flag=True, help="The earliest record that the brokers still have.")
@click.option("--to-end", is_flag=True, help="After the latest record: what is there now is skipped.")
@click.option("--to-offset", type=click.IntRange(min=0), help="This offset.")
@click.option(
    "--to-time",
    metavar="TIME",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]),
    help="The first record written at or after TIME (2026-11-20T08:00:00); in time_zone unless it has an offset.",
)
@click.option("--topic", help="Only this topic of the source.")
@click.option("--partition", type=click.IntRange(min=0), help="Only this partition.")
@click.option(
    "--force",
    is_flag=True,
    help="Even while a daemon runs; it goes back within seconds, forward after its next rebalance.",
)
def seek(
    config_path: Path,
    name: str,
    *,
    to_beginning: bool,
    to_end: bool,
    to_offset: int | None,
    to_time: datetime | None,
    topic: str | None,
    partition: int | None,
    force: bool,
) -> None:
    """Make a Kafka source go on from another place, backwards too. What was counted is not counted again."""
    if sum((to_beginning, to_end, to_offset is not None, to_time is not None)) != 1:
        raise click.UsageError("give exactly one of --to-beginning, --to-end, --to-offset and --to-time")
    config = load_config(config_path)
    section = _kafka_source(config, name)
    with open_store(config) as db:
        _refuse_while_running(db, force=force)
        with quiet_libraries(), _brokers(section, config) as brokers:
            chosen = _chosen(brokers, section, topic, partition)
            if to_time is not None:
                aware = to_time if to_time.tzinfo else to_time.replace(tzinfo=config.zone)
                targets = brokers.at(chosen, aware)
            else:
                targets = brokers.beginnings(chosen) if to_beginning else brokers.ends(chosen)
        if to_offset is not None:
            targets = dict.fromkeys(chosen, to_offset)
        _move(db, name, targets)


def _move(db: "Database", name: str, targets: "dict[StreamPartition, int]") -> None:
    from monitor.store import positions

    before = positions.load(db, name)
    rows = []
    for at, next_offset in sorted(targets.items(), key=lambda target: (target[0].stream, target[0].partition)):
        positions.reset(db, name, at, next_offset)
        was = before[at].next_offset if at in before else None
        rows.append({"stream": at.stream, "partition": at.partition, "from": was, "to": next_offset})
    print_rows(("stream", "partition", "from", "to"), rows)


def _refuse_while_running(db: "Database", *, force: bool) -> None:
    from monitor.store import instances

    if not force and instances.live(db, datetime.now(UTC)):
        raise click.UsageError(
            "a daemon runs on this database and would go on from its own place; stop it, or use --force"
        )


def _chosen(
    brokers: "Brokers", section: "KafkaSection", topic: str | None, partition: int | None
) -> "list[StreamPartition]":
    found = [
        at
        for name in section.topics
        if topic in {None, name}
        for at in brokers.partitions_of(name)
        if partition in {None, at.partition}
    ]
    if not found:
        wanted = f"topic {topic or ', '.join(section.topics)}" + (
            "" if partition is None else f", partition {partition}"
        )
        raise click.UsageError(f"the brokers of {section.name} have no {wanted}")
    return found


def _source(config: "Config", name: str) -> "AnySource":
    for source in config.sources:
        if source.name == name:
            return source
    raise click.UsageError(
        f"there is no source {name}; configured are {', '.join(source.name for source in config.sources)}"
    )


def _kafka_source(config: "Config", name: str) -> "KafkaSection":
    from monitor.config import KafkaSection

    source = _source(config, name)
    if not isinstance(source, KafkaSection):
        raise click.UsageError(
            f"{name} is a drop folder, which has no position to move: drop a file again to read it again"
        )
    return source


def _brokers(section: "KafkaSection", config: "Config") -> "Any":
    from monitor.brokers import brokers_of
    from monitor.settings import Secrets

    return brokers_of(section, config, Secrets())


def _rows_of(source: "AnySource", config: "Config", db: "Database") -> list[dict[str, Any]]:
    from monitor.config import DropFolderSection

    if isinstance(source, DropFolderSection):
        return _folder_rows(source, config, db)
    return _topic_rows(source, config, db)


def _folder_rows(source: Any, config: "Config", db: "Database") -> list[dict[str, Any]]:
    """The folder with its waiting files, then each file in processing/ with its next row."""
    from monitor.posts import StreamPartition
    from monitor.probe import n_waiting_files
    from monitor.store import files, positions

    known = positions.load(db, source.name)
    first = {"source": source.name, "kind": source.kind, "stream": str(source.path)}
    rows: list[dict[str, Any]] = [{**first, "lag": n_waiting_files(config.path(source.path))}]
    for taken in files.unfinished(db, source.name):
        at = known.get(StreamPartition(taken.sha256, 0))
        rows.append({**first, "stream": f"processing/{taken.taken_name}", "next_offset": at.next_offset if at else 0})
    return rows


def _topic_rows(source: "KafkaSection", config: "Config", db: "Database") -> list[dict[str, Any]]:
    from monitor.errors import SourceUnavailable
    from monitor.store import positions

    known = positions.load(db, source.name)
    ends: dict[StreamPartition, int] = {}
    try:
        with _brokers(source, config) as brokers:
            ends = brokers.ends([at for topic in source.topics for at in brokers.partitions_of(topic)])
    except SourceUnavailable as error:
        click.echo(f"{source.name}: {error}", err=True)
    rows = []
    for at in sorted({*known, *ends}, key=lambda at: (at.stream, at.partition)):
        position = known.get(at)
        next_offset = position.next_offset if position else None
        lag = max(0, ends[at] - (next_offset or 0)) if at in ends else None
        paused = position.paused_reason if position else None
        place = {"stream": at.stream, "partition": at.partition, "next_offset": next_offset}
        rows.append({"source": source.name, "kind": source.kind, **place, "lag": lag, "paused": paused})
    return rows or [{"source": source.name, "kind": source.kind}]


def _unconfigured(config: "Config", db: "Database") -> list[dict[str, Any]]:
    """Positions of sources that the configuration does not name (any more); files among them are left out."""
    from monitor.store import positions

    names = {source.name for source in config.sources}
    return [
        {"source": row.source, "kind": "not configured", "stream": row.stream, "partition": row.partition,
         "next_offset": row.next_offset, "paused": row.paused_reason}
        for row in positions.listing(db)
        if row.source not in names and "@" in row.stream
    ]  # fmt: skip
