"""`model`: the bundles that score, and the recipes that make them."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from monitor.commands.options import config_option, example, json_option, load_config
from monitor.commands.tables import print_fields, print_object, print_rows

if TYPE_CHECKING:
    from monitor.config import Config

_COLUMNS = ("used", "name", "classes", "languages", "sha256", "state")
_data_option = click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of the corpora, or a CSV with columns text and label.  [default: SENTIMENT_DATA]",
)


@click.group(
    short_help="Bundles and recipes: look, train, measure", epilog=example("model list", "model show social-gru")
)
def model() -> None:
    """Look at bundles, train one, measure one."""


@model.command("list", epilog=example("model list"))
@config_option
@json_option
def list_(config_path: Path, *, as_json: bool) -> None:
    """List the shipped bundles and the configured one (*), each checked against its manifest."""
    from models.bundle import list_bundles

    config = load_config(config_path)
    used = config.scoring.bundle
    rows = [{"used": "*" if name == used else "", **_summary(name, config)} for name in sorted({*list_bundles(), used})]
    print_rows(_COLUMNS, rows, as_json=as_json)


@model.command(epilog=example("model show", "model show social-gru --card"))
@config_option
@click.argument("bundle", required=False)
@click.option("--card", is_flag=True, help="Print the model card.")
@json_option
def show(config_path: Path, bundle: str | None, *, card: bool, as_json: bool) -> None:
    """Print what a bundle is and how well it does, after checking its files; by default the configured one."""
    from models.bundle import describe

    config = load_config(config_path)
    with _told_as_config_errors():
        path = _find(bundle or config.scoring.bundle, config)
        described = describe(path)
    if card:
        click.echo((path / "README.md").read_text(encoding="utf-8"))
    elif as_json:
        print_object(described)
    else:
        print_fields({name: _in_words(value) for name, value in described.items()})


@model.command(
    epilog=example("model train social-gru", "model train my-recipe.yaml --data labelled.csv --out my-bundle")
)
@config_option
@click.argument("recipe")
@_data_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the new bundle, which is called like it.  [default: bundles/RECIPE]",
)
@click.option(
    "--init",
    help="Bundle to start from, by path or name.  [default: with a CSV, the shipped bundle of a shipped recipe]",
)
@click.option("--seed", type=int, help="Another seed than the recipe's.")
def train(
    config_path: Path, recipe: str, data: Path | None, out: Path | None, init: str | None, seed: int | None
) -> None:
    """Train a bundle from RECIPE, a shipped recipe's name or a YAML file.

    A CSV of your own needs 100 posts, and 10 of each label that occurs. An interrupted training goes on from its
    checkpoint when called again.
    """
    from monitor import logs

    config = load_config(config_path)
    logs.configure(config.logging.level, config.logging.format, stream=cast("TextIO", _CurrentStderr()))
    with _told_as_config_errors():
        from models import train as training

        click.echo(training.train(recipe, data, out, _find(init, config) if init else None, seed))


@model.command(epilog=example("model evaluate", "model evaluate my-bundle --data labelled.csv --json"))
@config_option
@click.argument("bundle", required=False)
@_data_option
@json_option
def evaluate(config_path: Path, bundle: str | None, data: Path | None, *, as_json: bool) -> None:
    """Measure a bundle (by default the configured one) on the held-out posts, baselines beside it."""
    config = load_config(config_path)
    with _told_as_config_errors():
        from models import evaluate as evaluation

        report = evaluation.evaluate(_find(bundle or config.scoring.bundle, config), data)
    click.echo(json.dumps(report, indent=2) if as_json else evaluation.render(report))


class _CurrentStderr(io.TextIOBase):
    """Standard error as it is when a line is written: above the progress bar while there is one."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def _find(bundle: str, config: "Config") -> Path:
    """A path that is there as typed, else one relative to the configuration, else a shipped bundle's name."""
    from models.bundle import find_bundle

    typed = Path(bundle)
    return typed if (typed / "manifest.json").is_file() else find_bundle(bundle, config.base_dir)


def _summary(name: str, config: "Config") -> dict[str, Any]:
    from models.bundle import BundleError, find_bundle, read_manifest

    try:
        manifest = read_manifest(find_bundle(name, config.base_dir))
    except BundleError as error:
        return {"name": name, "state": str(error)}
    languages = ", ".join(manifest.languages)
    return {
        "name": manifest.name,
        "classes": len(manifest.classes),
        "languages": languages,
        "sha256": manifest.sha256[:8],
        "state": "in order",
    }


def _in_words(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4f}".rstrip("0") if isinstance(value, float) else value


@contextmanager
def _told_as_config_errors() -> Iterator[None]:
    """What is wrong with a bundle, a recipe or the training posts is told in one sentence, not as a crash."""
    from monitor.errors import ConfigError

    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "models":
            raise
        raise ConfigError(str(error)) from error
