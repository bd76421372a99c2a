"""`init`: write the commented default configuration."""

from pathlib import Path

import click

from monitor.commands.options import example


@click.command(
    short_help="Write a commented config.yaml",
    epilog=example("init", "init --config /etc/sentiment-monitor/config.yaml"),
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("config.yaml"),
    show_default=True,
    help="Where to write it.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(config_path: Path, *, force: bool) -> None:
    """Write a config.yaml with every key, its default and a comment."""
    from monitor.settings import default_text

    try:
        with config_path.open("w" if force else "x", encoding="utf-8") as out:
            out.write(default_text())
    except FileExistsError:
        raise click.UsageError(f"{config_path} is there already; --force replaces it") from None
    click.echo(f"wrote {config_path}")
    click.echo("next: edit it, then `sentiment-monitor check` and `sentiment-monitor run`", err=True)
