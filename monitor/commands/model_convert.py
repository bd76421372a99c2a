"""`model export` and `model quantize`: a bundle in another form, checked against the one it comes from."""

from pathlib import Path
from typing import Any

import click

from monitor.commands.model_options import bundle_argument, data_option, find_bundle, told_as_config_errors
from monitor.commands.options import config_option, example, json_option, load_config
from monitor.commands.tables import print_object, print_rows
from monitor.errors import ConfigError


@click.command(epilog=example("model export --out model.onnx"))
@config_option
@bundle_argument
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The ONNX file.")
def export(config_path: Path, bundle: str | None, out: Path) -> None:
    """Write a bundle's network as ONNX with tokenizer.json beside it, once ONNX Runtime gives torch's probabilities.

    Inputs: `ids` (posts, tokens) int64, zeros behind, and `lengths` (posts) int32, each at least 1.
    Output: calibrated `probabilities`. Text must be prepared as `models/preparation.py` does before the tokenizer.
    """
    config = load_config(config_path)
    try:
        with told_as_config_errors():
            from models import export as exporting

            difference = exporting.export(find_bundle(bundle or config.scoring.bundle, config), out)
    except ModuleNotFoundError as error:
        raise ConfigError(f"export needs {error.name}: pip install 'sentiment-monitor[export]'") from error
    click.echo(f"{out} and tokenizer.json beside it; probabilities equal torch's within {difference:.1g}")


@click.command(epilog=example("model quantize --out small --data labelled.csv"))
@config_option
@bundle_argument
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the new bundle."
)
@data_option
@json_option
def quantize(config_path: Path, bundle: str | None, out: Path, data: Path | None, *, as_json: bool) -> None:
    """Write a bundle with int8 weights, and say what that does to size and accuracy.

    It is served and evaluated like any other; speed and memory stay as they are, for weights are read back to fp32.
    Without a CSV the posts are those that the bundle held out, as in `compare`; where these are a task's, it gets a
    card of its own, with the figures of the task's test posts.
    """
    config = load_config(config_path)
    with told_as_config_errors():
        from models import quantize as quantizing

        report = quantizing.quantize(find_bundle(bundle or config.scoring.bundle, config), out, data)
    if as_json:
        print_object(report)
        return
    print_rows(("measure", "before", "after", "difference", "low", "high"), _rows(report))
    click.echo(
        f"{report['posts']} posts ({report['data']}), {report['different_predictions']} with another label;"
        f" now scoring.bundle: {out}"
    )


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    size = {"measure": "bytes of weights", "before": report["bytes_before"], "after": report["bytes_after"]}
    paired = [
        {"measure": name, "before": report[name]["first"], "after": report[name]["second"]} | report[name]
        for name in ("accuracy", "macro_recall")
    ]
    return [size, *paired]
