"""`posts forget`: take posts out again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monitor.commands.options import config_option, confirmed, example, load_config, open_store, yes_option
from monitor.printable import printable

if TYPE_CHECKING:
    from monitor.config import Config
    from monitor.store.forgetting import Forgotten


@click.group(short_help="Take posts out of the store", epilog=example("posts forget --file 2026-11-20.csv"))
def posts() -> None:
    """Take posts out of the store."""


@posts.command(
    short_help="Delete posts and correct their days",
    epilog=example(
        "posts forget --file 2026-11-20.csv", "posts forget --user @somebody", "posts forget --id 1234 --yes"
    ),
)
@config_option
@click.option("--file", "file_", help="Posts of a dropped file, by the name it was dropped under or has in done/.")
@click.option("--id", "id_", help="Posts with this id.")
@click.option("--user", help="Posts of this author.")
@yes_option
def forget(config_path: Path, file_: str | None, id_: str | None, user: str | None, *, yes: bool) -> None:
    """Delete posts, correct the days they counted in, and free their keys, so that they may be counted again.

    Dead letters, quotes and words in alerts and the files in done/ and failed/ lose them too. Files that are still to
    be read, and Kafka topics, stay as they are: run it again once they were read.
    """
    if sum(value is not None for value in (file_, id_, user)) != 1:
        raise click.UsageError("give exactly one of --file, --id and --user")
    from monitor.store import daily, forgetting
    from monitor.store import settings as store_settings

    config = load_config(config_path)
    with open_store(config) as db:
        which = forgetting.Which(file_, id_, user)
        hash_key = store_settings.hash_key(db)
        if not yes and not confirmed(_question(forgetting.find(db, which, hash_key))):
            return
        unread = _unread(config, file_, which.value)
        forgotten = forgetting.forget(db, which, hash_key)
        daily.refresh(db, datetime.now(UTC))
    copies = _erase_copies(config, file_, which.value)
    letters = f", {forgotten.n_dead_letters} dead letters blanked" if forgotten.n_dead_letters else ""
    if not (forgotten.n_posts or letters or copies):
        kind = "file" if file_ is not None else "id" if id_ is not None else "user"
        click.echo(f"there is no {kind} {printable(file_ or id_ or user or '')} in what is stored", err=True)
    click.echo(f"{forgotten.n_posts} posts forgotten, {len(forgotten.days)} days corrected{letters}{copies}")
    if unread:
        names = ", ".join(map(printable, unread))
        click.echo(f"left as they are, for they are still to be read: {names}; run this again once they were", err=True)


def _question(found: "Forgotten") -> str:
    posts_of_days = f"{found.n_posts} posts of {len({day for _, day in found.days})} days"
    letters = f", the content of {found.n_dead_letters} dead letters" if found.n_dead_letters else ""
    return f"Delete {posts_of_days}{letters}, and what finished files and alerts have of them, for good?"


def _unread(config: "Config", file_: str | None, value: str | None) -> list[str]:
    """Files of the drop folders that will bring what is to be forgotten."""
    from monitor.sources import erasing

    return [name for folder in _folders(config) for name in erasing.unread_with(folder, name=file_, value=value)]


def _folders(config: "Config") -> list[Path]:
    from monitor.config import DropFolderSection

    return [config.path(source.path) for source in config.sources if isinstance(source, DropFolderSection)]


def _erase_copies(config: "Config", file_: str | None, value: str | None) -> str:
    """Reach the copies in the drop folders too; what was done with them, for the last line."""
    from monitor.sources import erasing

    folders = _folders(config)
    if file_ is not None:
        n_deleted = sum(erasing.erase_file(folder, file_) for folder in folders)
        return f", {n_deleted} files of done/ and failed/ deleted" if n_deleted else ""
    erased = [erasing.erase_value(folder, value or "") for folder in folders]
    n_changed, n_deleted = sum(one.n_changed for one in erased), sum(one.n_deleted for one in erased)
    changed = f", {n_changed} files of done/ and failed/ changed" if n_changed else ""
    return changed + (f", {n_deleted} that cannot be searched or mended deleted" if n_deleted else "")
