"""`score`: a CSV in, the same CSV with pos_prob, pred and label out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from monitor.commands.options import config_option, example, load_config

if TYPE_CHECKING:
    from monitor.config import Config
    from monitor.csv_scoring import Tally


@click.command(
    short_help="Add scores to the rows of a CSV",
    epilog=example("score posts.csv -o scored.csv", "score - < posts.csv | head"),
)
@config_option
@click.argument(
    "source", metavar="IN.csv", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default=Path("-"),
    help="Where the CSV goes.  [default: standard output]",
)
@click.option("--text-column", help="Column with the texts.  [default: as the first drop folder names it, else text]")
@click.option("--bundle", help="Another bundle than the configured one.")
def score(config_path: Path, source: Path, output: Path, text_column: str | None, bundle: str | None) -> None:
    """Add pos_prob, pred and label to every row of a CSV (or .csv.gz); rows and columns stay as they are, in order.

    The cells are empty where a row has no usable text; standard error says how many rows these are. Nothing is stored.
    """
    from monitor import csv_scoring
    from monitor.scorer import BundleScorer

    if str(source) != "-" and output.exists() and output.samefile(source):
        raise click.UsageError(f"{output} is the input itself: name another file with -o")
    config = load_config(config_path)
    column = text_column or _text_column(config)
    with csv_scoring.regular_file(source) as path:
        _check_whole(path, column, source)
        scoring = config.scoring
        scorer = BundleScorer.load(bundle or scoring.bundle, scoring.device, config.base_dir)
        limits = csv_scoring.Limits(scoring.max_batch_posts, scoring.max_batch_chars, scoring.max_text_chars)
        with _opened(output) as out, _progress(csv_scoring.total_bytes(path), output) as advance:
            tally = csv_scoring.score_csv(path, out, column, scorer.score_texts, limits, advance)
        for name in csv_scoring.has_new_columns(path):
            click.echo(f"the input has a column {name} too; the new one is the later", err=True)
    _say_unusable(tally)


def _check_whole(path: Path, column: str, source: Path) -> None:
    from monitor import csv_scoring
    from monitor.errors import UnusableInput

    try:
        csv_scoring.check_whole(path, column)
    except UnusableInput as error:
        raise UnusableInput(f"{'standard input' if str(source) == '-' else source} cannot be used: {error}") from None


def _text_column(config: "Config") -> str:
    folders = [source for source in config.sources if source.kind == "drop_folder"]
    return folders[0].columns.get("text", "text") if folders else "text"


@contextmanager
def _opened(output: Path) -> Iterator[TextIO]:
    from monitor.whole_file import replacing

    if str(output) == "-":
        yield sys.stdout
        return
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        yield out


@contextmanager
def _progress(n_bytes: int | None, output: Path) -> Iterator[Callable[[int], object]]:
    """A progress bar on a terminal that nothing else is written to."""
    if not sys.stderr.isatty() or (str(output) == "-" and sys.stdout.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("scoring"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scoring", total=n_bytes)
        yield lambda n: bar.advance(task, n)


def _say_unusable(tally: "Tally") -> None:
    n_unusable = sum(n for n, _ in tally.unusable.values())
    if not n_unusable:
        return
    reasons = ", ".join(
        f"{reason.value} {n} (first on line {line})" for reason, (n, line) in sorted(tally.unusable.items())
    )
    click.echo(f"{n_unusable} of {tally.n_rows} rows have no score: {reasons}", err=True)
