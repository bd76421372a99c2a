"""`posts forget`: take posts out again."""

from datetime import UTC, datetime
from pathlib import Path

import click

from monitor.commands.options import config_option, example, load_config, open_store, yes_option


@click.group(short_help="Take posts out of the store", epilog=example("posts forget --file 2026-11-20.csv"))
def posts() -> None:
    """Take posts out of the store."""


@posts.command(
    epilog=example(
        "posts forget --file 2026-11-20.csv", "posts forget --user @somebody", "posts forget --id 1234 --yes"
    )
)
@config_option
@click.option("--file", "file_", help="Posts of a dropped file, by the name it was dropped under or has in done/.")
@click.option("--id", "id_", help="Posts with this id.")
@click.option("--user", help="Posts of this author.")
@yes_option
def forget(config_path: Path, file_: str | None, id_: str | None, user: str | None, *, yes: bool) -> None:
    """Delete posts, correct the days they counted in, and free their keys, so that they may be counted again."""
    if sum(value is not None for value in (file_, id_, user)) != 1:
        raise click.UsageError("give exactly one of --file, --id and --user")
    from monitor.store import daily, forgetting
    from monitor.store import settings as store_settings

    with open_store(load_config(config_path)) as db:
        if not yes:
            click.confirm("Delete these posts for good?", abort=True, err=True)
        hash_key = store_settings.hash_key(db)
        forgotten = forgetting.forget(db, file=file_, id=id_, user=user, hash_key=hash_key)
        daily.refresh(db, datetime.now(UTC))
    letters = f", {forgotten.n_dead_letters} dead letters blanked" if forgotten.n_dead_letters else ""
    click.echo(f"{forgotten.n_posts} posts forgotten, {len(forgotten.days)} days corrected{letters}")
