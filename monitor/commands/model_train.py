"""`model train` and `model evaluate`: make a bundle, measure one."""

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from monitor.commands.model_options import bundle_argument, find_bundle, hub_data_option, told_as_config_errors
from monitor.commands.options import config_option, example, json_option, load_config

if TYPE_CHECKING:
    from monitor.config import Config


@click.command(
    epilog=example("model train social-gru", "model train my-recipe.yaml --data labelled.csv --out my-bundle")
)
@config_option
@click.argument("recipe")
@hub_data_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the new bundle, which is called like it.  [default: bundles/RECIPE, bundles/RECIPE-TASK, or"
    " bundles/RECIPE-small of several corpora at small scale]",
)
@click.option(
    "--init",
    help="Bundle to start from, by path or name.  [default: with a CSV, the shipped bundle of a shipped recipe]",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Another seed than the recipe's.")
@click.option(
    "--scale",
    type=click.Choice(["small", "full"]),
    help="small: a recipe's own small size, of others a third of their posts.  [default: full]",
)
@click.option(
    "--vectors",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File in GloVe's text format, in place of the recipe's pretrained vectors.",
)
@click.option(
    "--task", help="Learn the posts of another task, of one recipe's or `social`: the shipped bundle's last ones."
)
@click.option(
    "--teacher",
    "teachers",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="Folder of a teacher (recipes social-teacher and social-teacher-mpnet), for a recipe with teacher_share;"
    " several teach on average.",
)
@click.option("--no-variants", is_flag=True, help="Leave out the recipe's variants; a later call adds them.")
def train(
    config_path: Path,
    recipe: str,
    data: Path | str | None,
    out: Path | None,
    init: str | None,
    seed: int | None,
    scale: str | None,
    vectors: Path | None,
    task: str | None,
    teachers: tuple[Path, ...],
    *,
    no_variants: bool,
) -> None:
    """Train a bundle from RECIPE, a shipped recipe's name or a YAML file.

    A CSV of your own needs 100 posts, and 10 of each label that occurs. An interrupted training goes on from its
    checkpoint when called again. A recipe of one task prints its figures, its repeats and variants beside them; their
    bundles lie in OUT.runs, and those that are there already are not trained again.
    """
    config = load_config(config_path)
    _tell_progress(config)
    with told_as_config_errors():
        from models import train as training

        start = find_bundle(init, config) if init else None
        options = {"scale": scale, "vectors": vectors, "task": task, "with_variants": False if no_variants else None}
        more: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        folder = training.train(recipe, data, out, start, seed, teachers=teachers, **more)
        click.echo(training.told_of(folder))


@click.command(
    epilog=example(
        "model evaluate", "model evaluate my-bundle --data labelled.csv --json", "model evaluate --hold-out uci"
    )
)
@config_option
@bundle_argument
@hub_data_option
@click.option(
    "--hold-out",
    metavar="SOURCE",
    multiple=True,
    help="Train the shipped recipe without this corpus, and measure on it; may be repeated.",
)
@click.option(
    "--scale",
    type=click.Choice(["small", "full"]),
    default="small",
    show_default=True,
    help="How much of the recipe --hold-out trains: a third of its posts, or all of it.",
)
@click.option(
    "--teacher-recipe",
    metavar="RECIPE",
    help="Recipe of the teacher that --hold-out trains.  [default: the first shipped one among the bundle's teachers',"
    " else social-teacher]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bundles"),
    show_default=True,
    help="Folder that keeps the bundles of --hold-out.",
)
@click.option(
    "--beside", metavar="BUNDLE", multiple=True, help="Another bundle measured on the same posts; may be repeated."
)
@click.option(
    "--save",
    is_flag=True,
    help="Write report, model card and pictures into the bundle's folder; its figures of other posts stay.",
)
@json_option
def evaluate(
    config_path: Path,
    bundle: str | None,
    data: Path | str | None,
    hold_out: tuple[str, ...],
    scale: str,
    teacher_recipe: str | None,
    out: Path,
    beside: tuple[str, ...],
    *,
    save: bool,
    as_json: bool,
) -> None:
    """Measure a bundle (by default the configured one) on the held-out posts, baselines beside it."""
    if hold_out and beside:
        raise click.UsageError("--beside goes with the bundle's own figures, not with --hold-out")
    if teacher_recipe is not None and not hold_out:
        raise click.UsageError("--teacher-recipe goes with --hold-out")
    config = load_config(config_path)
    with told_as_config_errors():
        from models import evaluate as evaluation
        from models.places import require_writable

        folder = find_bundle(bundle or config.scoring.bundle, config)
        if save:
            require_writable(folder)
        if hold_out:
            _tell_progress(config)
            options = {"data": data, "out": out, "scale": scale}
            report, text = _hold_out(folder, hold_out, teacher_recipe, options, save=save)
        else:
            others = [find_bundle(other, config) for other in beside]
            report = evaluation.evaluate(folder, data, others)
            text = evaluation.render(report)
            if save:
                evaluation.save_report(folder, report)
    click.echo(json.dumps(report, indent=2) if as_json else text)


def _hold_out(
    folder: Path, sources: tuple[str, ...], teacher_recipe: str | None, options: dict[str, Any], *, save: bool
) -> tuple[dict[str, Any], str]:
    """The bundle's report with the figures of the sources left out, and these as text; each is saved when known."""
    from models.card_sections import render_hold_outs
    from models.evaluate import load_report, save_report
    from models.hold_out_source import prepare
    from models.left_out import default_teacher, mark_others
    from models.manifest import read_manifest

    report = load_report(folder)  # what is missing is found now, not after hours of training
    trained = read_manifest(folder).trained
    teacher = default_teacher(trained) if teacher_recipe is None else teacher_recipe
    trainings = prepare(sources, teacher=teacher, **options)
    told = mark_others({one.source: one.told() for one in trainings}, trained)
    if others := [source for source, one in told.items() if one.get("other_recipe")]:
        click.echo(
            f"the figures of {', '.join(others)} will be marked *: {folder.name} has another recipe, or had no teacher"
            " of this one",
            err=True,
        )
    found: dict[str, Any] = {}
    for one in trainings:
        found[one.source] = one.measure()
        report = load_report(folder)  # as it is by now
        report["hold_out"] = mark_others(report.get("hold_out", {}) | found, trained)
        if save:
            save_report(folder, report)
    shown = {source: report["hold_out"][source] for source in sources}
    return report, render_hold_outs(shown, report.get("in_training", {}))


def _tell_progress(config: "Config") -> None:
    """Log lines of a training to stderr."""
    from monitor import logs

    logs.configure(config.logging.level, config.logging.format, stream=cast("TextIO", _CurrentStderr()))


class _CurrentStderr(io.TextIOBase):
    """Standard error as it is when a line is written: above the progress bar while there is one."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()
