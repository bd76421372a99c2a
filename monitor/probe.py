"""A look at a source from outside, without taking anything from it: does it answer, what waits there?"""

import os
from pathlib import Path

from monitor.config import Config, DropFolderSection, KafkaSection
from monitor.errors import SourceUnavailable
from monitor.settings import Secrets
from monitor.sources.folders import PROCESSING, is_wanted


def look_at(source: DropFolderSection | KafkaSection, config: Config, secrets: Secrets) -> str:
    """What a source looks like now, in a sentence. Raises SourceUnavailable, ConfigError."""
    if isinstance(source, DropFolderSection):
        return _look_at_folder(config.path(source.path))
    from monitor.brokers import brokers_of

    with brokers_of(source, config, secrets) as brokers:
        missing = [topic for topic in source.topics if not brokers.partitions_of(topic)]
        if missing:
            raise SourceUnavailable(
                f"{', '.join(source.bootstrap_servers)} answers, but has no topic {', '.join(missing)}"
            )
        counts = [f"{topic} ({len(brokers.partitions_of(topic))} partitions)" for topic in source.topics]
    return f"{', '.join(source.bootstrap_servers)} answers; {', '.join(counts)}"


def n_waiting_files(folder: Path) -> int:
    """Files that a drop folder would take, and those it has begun to read; 0 where it cannot be read."""
    return _n_files(folder) + _n_files(folder / PROCESSING)


def _n_files(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(is_wanted(entry.name) and entry.is_file(follow_symlinks=False) for entry in entries)
    except OSError:
        return 0


def _look_at_folder(folder: Path) -> str:
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    if not parent.is_dir():
        raise SourceUnavailable(f"{parent} is not a folder")
    if not os.access(parent, os.R_OK | os.W_OK | os.X_OK):
        raise SourceUnavailable(
            f"{parent} cannot be read and written by this user: files are moved out of a drop folder"
        )
    if parent != folder:
        return f"{folder} is made at the first start"
    n_begun = _n_files(folder / PROCESSING)
    return f"{folder}: {_n_files(folder)} files wait{f', {n_begun} half read' if n_begun else ''}"
