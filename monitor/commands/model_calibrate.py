"""`model calibrate`: a bundle's probabilities fitted anew, or a brand's daily means corrected by its own labels."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitor.commands.model_options import bundle_argument, data_option, find_bundle, told_as_config_errors
from monitor.commands.options import config_option, example, json_option, load_config, open_store
from monitor.commands.tables import print_object, print_rows
from monitor.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitor.config import Config
    from monitor.corrections import LabelSums

_COLUMNS = ("brand", "posts", "mean_label", "mean_pos", "slope", "label_error")


@click.command(
    epilog=example("model calibrate --labels labelled.csv", "model calibrate --data held-out.csv --out calibrated")
)
@config_option
@bundle_argument
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with the columns brand, text and label: corrects the daily means of those brands.",
)
@data_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the new bundle.")
@json_option
def calibrate(
    config_path: Path,
    bundle: str | None,
    labels: Path | None,
    data: Path | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Correct the daily means of brands by their own labels, or fit a bundle's probabilities anew.

    With --labels (about 200 posts of a brand, drawn at random, labelled by hand): mean_pos_corrected, corrected_low and
    corrected_high of its daily rows are filled from the next refresh on; mean_pos stays as it is. Only sums are stored.
    Keep the file: labels count for the bundle that scored them, and after another bundle the command is run again.

    With --out: a copy of the bundle whose calibration is fitted to the posts of --data, or without it to the
    development tweets of the shipped bundle's recipe, which is no choice for a bundle of one task and is refused
    where it held out posts of its own. Take posts that the bundle was not trained on.
    """
    if (labels is None) == (out is None):
        raise click.UsageError("give either --labels (correct brands) or --out (write a bundle)")
    if labels is not None and data is not None:
        raise click.UsageError("--data goes with --out; the labelled posts of brands are named by --labels alone")
    config = load_config(config_path)
    if labels is not None:
        _correct_brands(config, bundle or config.scoring.bundle, labels, as_json=as_json)
    elif out is not None:
        _fit_bundle(config, bundle or config.scoring.bundle, out, data, as_json=as_json)


def _correct_brands(config: "Config", bundle: str, labels: Path, *, as_json: bool) -> None:
    with told_as_config_errors():
        from monitor import labelling
        from monitor.scorer import BundleScorer
        from monitor.store import labels as label_store

        labelled = labelling.read_labels(labels, config.brand)  # before any time is spent
        with open_store(config) as db:
            scorer = BundleScorer.load(
                str(find_bundle(bundle, config).resolve()), config.scoring.device, config.base_dir
            )
            sums = labelling.score_labels(labelled, scorer.score_texts)
            unknown = label_store.save(db, scorer.model, sums, datetime.now(UTC))
    print_rows(_COLUMNS, _rows(sums), as_json=as_json)
    if not as_json:
        click.echo(
            f"stored for {scorer.model}; its days follow at the next refresh. Keep {labels}: another bundle needs it"
        )
    for brand in unknown:
        click.echo(f"nothing was ever counted under {printable(brand)}: is its name right?", err=True)


def _rows(sums: "Mapping[str, LabelSums]") -> list[dict[str, Any]]:
    from monitor.corrections import Correction

    found = {brand: Correction.of(one) for brand, one in sorted(sums.items())}
    return [
        {
            "brand": brand,
            "posts": one.n,
            "mean_label": one.mean_label,
            "mean_pos": one.mean_score,
            "slope": one.slope,
            "label_error": one.label_error(one.mean_score),
        }
        for brand, one in found.items()
    ]


def _fit_bundle(config: "Config", bundle: str, out: Path, data: Path | None, *, as_json: bool) -> None:
    with told_as_config_errors():
        from models import recalibrate

        report = recalibrate.recalibrate(find_bundle(bundle, config), out, data)
    if as_json:
        print_object(report)
        return
    names = ("log_loss_balanced", "ece_pos_prob_balanced")
    rows = [{"measure": n, "before": report["before"][n], "after": report["after"][n]} for n in names]
    print_rows(("measure", "before", "after"), rows)
    click.echo(
        f"{report['posts']} posts ({report['data']}); `after`: each fifth by a fit to the others;"
        f" now scoring.bundle: {out}"
    )
