"""`model`: the bundles that score, and the recipes that make them. One file `model_*.py` per family of commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitor.commands import model_calibrate, model_compare, model_convert, model_look, model_train
from monitor.commands.model_options import bundle_argument, find_bundle, told_as_config_errors
from monitor.commands.options import config_option, example, json_option, load_config
from monitor.commands.tables import print_fields, print_object, print_rows
from monitor.errors import ConfigError

if TYPE_CHECKING:
    from monitor.config import Config

_RECIPE_COLUMNS = ("recipe", "trains on", "description")
_COLUMNS = ("used", "name", "classes", "languages", "sha256", "state")


@click.group(
    short_help="Bundles and recipes: look, train, measure", epilog=example("model list", "model show social-gru")
)
def model() -> None:
    """Look at bundles, train one, measure one."""


@model.command("list", epilog=example("model list", "model list --recipes"))
@config_option
@click.option("--recipes", is_flag=True, help="List the recipes that `model train` knows by name.")
@json_option
def list_(config_path: Path, *, recipes: bool, as_json: bool) -> None:
    """List the shipped bundles and the configured one (*), each checked against its manifest."""
    from models.bundle import list_bundles

    config = load_config(config_path)
    if recipes:
        print_rows(_RECIPE_COLUMNS, _recipe_rows(), as_json=as_json)
        return
    used = config.scoring.bundle
    rows = [{"used": "*" if name == used else "", **_summary(name, config)} for name in sorted({*list_bundles(), used})]
    print_rows(_COLUMNS, rows, as_json=as_json)


@model.command(epilog=example("model show", "model show social-gru --card"))
@config_option
@bundle_argument
@click.option("--card", is_flag=True, help="Print the model card.")
@json_option
def show(config_path: Path, bundle: str | None, *, card: bool, as_json: bool) -> None:
    """Print what a bundle is and how well it does, after checking its files; by default the configured one."""
    from models.bundle import describe

    config = load_config(config_path)
    with told_as_config_errors():
        path = find_bundle(bundle or config.scoring.bundle, config)
        described = describe(path)
    if card:
        if not (path / "README.md").is_file():
            raise ConfigError(f"{path} has no card: `sentiment-monitor model evaluate {path} --save` writes it")
        click.echo((path / "README.md").read_text(encoding="utf-8"))
    elif as_json:
        print_object(described)
    else:
        print_fields({name: _in_words(value) for name, value in described.items()})


def _recipe_rows() -> list[dict[str, Any]]:
    from models.recipe import find_recipe, list_recipes, read_tree

    trees = {name: read_tree(find_recipe(name)) for name in list_recipes()}
    return [
        {"recipe": name, "trains on": tree.get("task", "several corpora"), "description": tree["description"]}
        for name, tree in trees.items()
    ]


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
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


for _command in (
    model_train.train,
    model_train.evaluate,
    model_calibrate.calibrate,
    model_compare.compare,
    model_compare.threshold,
    model_compare.errors,
    model_look.explore,
    model_look.neighbours,
    model_look.words,
    model_look.explain,
    model_convert.export,
    model_convert.quantize,
):
    model.add_command(_command)
