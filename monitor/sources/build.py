"""From a section of the configuration to the source it describes."""

from collections.abc import Callable
from datetime import UTC, datetime

from monitor.config import Config, DropFolderSection, KafkaSection
from monitor.parsing import Parser
from monitor.protocols import Source
from monitor.sources.bookkeeping import StoredPositions
from monitor.store.database import Database


def build_source(
    section: DropFolderSection | KafkaSection, config: Config, db: Database, secret: Callable[[str], str | None]
) -> Source:
    """The source, not yet opened; `secret` finds a password by its name. kafka-python is only imported where it is
    used."""
    parser = Parser(section, config.brand, config.zone, config.scoring.max_text_chars)
    positions = StoredPositions(db, section.name, keep_text=config.store.keep_text)
    if isinstance(section, DropFolderSection):
        from monitor.sources.drop_folder import DropFolder

        path = config.path(section.path)
        return DropFolder(section, parser, positions, _now, path=path, keep_text=config.store.keep_text)
    from monitor.sources.kafka import KafkaTopics

    password = secret(section.password_from) if section.password_from else None
    return KafkaTopics(section, parser, positions, _now, password=password, base_dir=config.base_dir)


def _now() -> datetime:
    return datetime.now(UTC)
