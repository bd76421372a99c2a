"""`model compare`, `model threshold` and `model errors`: bundles on labelled posts."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monitor.commands.model_options import bundle_argument, data_option, find_bundle, told_as_config_errors
from monitor.commands.options import config_option, example, json_option, load_config
from monitor.commands.tables import print_rows
from monitor.printable import printable

if TYPE_CHECKING:
    from models.mistakes import Group

_CURVE_POINTS = 11


@click.command(epilog=example("model compare social-gru my-bundle --data held-out.csv"))
@config_option
@click.argument("first")
@click.argument("second")
@data_option
@json_option
def compare(config_path: Path, first: str, second: str, data: Path | None, *, as_json: bool) -> None:
    """Compare two bundles on the same posts: McNemar's test, and the difference with its 95% bootstrap interval.

    The difference is SECOND less FIRST. Without a CSV the posts are those that both bundles held out, where they are of
    one task and split and learnt from its own posts, else the 3,000 development tweets that the shipped bundle's recipe
    was chosen on, unless one learnt from these. A two-class bundle is compared on posts with a side.
    """
    config = load_config(config_path)
    with told_as_config_errors():
        from models import paired

        report = paired.compare(find_bundle(first, config), find_bundle(second, config), data)
    if as_json:
        click.echo(json.dumps(report))
        return
    names = ("accuracy", "macro_recall")
    print_rows(("measure", "first", "second", "difference", "low", "high"), [{"measure": n} | report[n] for n in names])
    click.echo(
        f"{report['posts']} posts ({report['data']}); only the first is right on {report['only_first_right']},"
        f" only the second on {report['only_second_right']}; McNemar p = {report['mcnemar_p']:.4g}"
    )


@click.command(
    epilog=example("model threshold --labels my.csv", "model threshold my-bundle --labels my.csv --out tuned")
)
@config_option
@bundle_argument
@click.option(
    "--labels",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with the columns text and label.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Write the bundle with it to this folder."
)
@json_option
def threshold(config_path: Path, bundle: str | None, labels: Path, out: Path | None, *, as_json: bool) -> None:
    """Find the pred_threshold with the highest F1 of the positive posts; mean_pos does not depend on it."""
    config = load_config(config_path)
    with told_as_config_errors():
        from models import threshold as thresholds
        from models.bundle import Bundle

        path = find_bundle(bundle or config.scoring.bundle, config)
        loaded = Bundle.load(path, "cpu")
        points = thresholds.measure_thresholds(loaded, labels)
        best = thresholds.best(points, loaded.pred_threshold)
        if out is not None:
            thresholds.set_threshold(path, best.threshold, out)
    step = max(1, (len(points) - 1) // (_CURVE_POINTS - 1))
    listed = sorted({*points[::step], points[-1], best}, key=lambda point: point.threshold)
    rows = [{"best": "*" if point == best else ""} | asdict(point) for point in listed]
    print_rows(("best", "threshold", "precision", "recall", "f1"), rows, as_json=as_json)
    if not as_json:
        click.echo(f"now {loaded.pred_threshold}, best {best.threshold}. " + _how_to_set(out))


def _how_to_set(out: Path | None) -> str:
    if out is None:
        return "To set it, add --out FOLDER: that writes a copy of the bundle with it."
    return f"Set it with scoring.bundle: {out}"


@click.command(epilog=example("model errors --data labelled.csv"))
@config_option
@bundle_argument
@data_option
@click.option(
    "--confident", type=click.FloatRange(0, 1), default=0.8, show_default=True, help="Probability from which on."
)
@json_option
def errors(config_path: Path, bundle: str | None, data: Path | None, confident: float, *, as_json: bool) -> None:
    """Group a bundle's confident mistakes: negation, mixed, sarcasm-like, unknown words.

    `share` is of the confident mistakes, `share_of_correct` of the posts it got right: where the first is the higher,
    the group is hard for the bundle. A post may be in several groups. Without a CSV the posts are those that the bundle
    held out, as in `compare`. Posts are quoted on a terminal only.
    """
    config = load_config(config_path)
    with told_as_config_errors():
        from models import mistakes

        groups = mistakes.group_mistakes(find_bundle(bundle or config.scoring.bundle, config), data, confident)
    rows = [{"group": g.name, **asdict(g)} for g in groups]
    print_rows(("group", "mistakes", "share", "share_of_correct"), rows, as_json=as_json)
    if not as_json:
        click.echo(f"of the posts {groups[0].data}")
    if not as_json and not groups[0].mistakes:
        click.echo(f"No mistake has a probability of {confident:g} or more.", err=True)
    if not as_json and is_terminal():
        _quote(groups)


def is_terminal() -> bool:
    """Whether whoever asked reads standard output."""
    return sys.stdout.isatty()


def _quote(groups: "list[Group]") -> None:
    for group in groups[1:]:
        for text, label, predicted in group.examples:
            click.echo(f"{group.name}: is {label}, read as {predicted}: {printable(text)}")
