"""The model card of a bundle that a task recipe made, in Markdown. Every figure comes from manifest and report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models import linear_words
from models.manifest import Manifest
from models.model_card import class_table, render
from models.tasks import TASKS

HISTORY_COLUMNS = ("loss", "development_loss", "accuracy", "macro_recall")
RUN_COLUMNS = ("run", "runs", "accuracy", "macro recall", "macro F1", "best accuracy held out", "the seed says")


def render_task_card(manifest: Manifest, report: Mapping[str, Any]) -> str:
    """The card (Mitchell et al. 2019, arXiv:1810.03993) of a bundle and its report, its variants beside it."""
    recipe = manifest.trained["recipe"]
    first = report["sets"][report["headline_set"]]["network"]
    is_linear = manifest.network.get("kind") == linear_words.KIND
    is_int8, task = "quantized_from" in manifest.trained, recipe["task"] if manifest.trained.get("other_task") else ""
    return CARD_TEXT.format(
        name=manifest.name,
        description=f"The network of `{recipe['name']}` on posts of the task `{task}`"
        if task
        else recipe["description"],
        classes=", ".join(manifest.classes),
        languages=", ".join(manifest.languages),
        network=_in_words(manifest),
        parameters=report["parameters"],
        mebibytes=report["bytes"] / 2**20,
        stored="with int8 matrices" if is_int8 else "in fp16",
        reading=_reading(recipe),
        recipe=recipe["name"],
        options=(f" --task {task}" if task else "")
        + ("" if manifest.trained.get("scale", "full") == "full" else " --scale small"),
        seed=recipe["seed"],
        training_posts=manifest.trained["training_posts"],
        held_out=manifest.trained["held_out_posts"],
        purpose="for " + ("" if is_linear else "early stopping and for ") + "the calibration",
        start=_start(manifest) + _afterwards(manifest),
        files=", ".join(manifest.trained.get("data_sha256", {})) + _of_these(manifest),
        table=render(report),
        class_table=class_table(first),
        history=_history(manifest.trained.get("history", [])),
        int8="".join(f"{line}\n" for line in _int8_lines(report.get("int8", {}))),
        words=_words(report.get("words", {})),
        runs="".join(f"{line}\n" for line in run_lines(report)),
    )


def _in_words(manifest: Manifest) -> str:
    numbers = manifest.network
    told = {name: value for name, value in sorted(numbers.items()) if name != "kind" and (value or value is False)}
    shown = ", ".join(f"{name} {str(value).lower() if value is False else value}" for name, value in told.items())
    return f"A network of the kind `{numbers.get('kind', 'gru')}`: {shown}"


def _reading(recipe: Mapping[str, Any]) -> str:
    removed = f", without {', '.join(recipe['remove'])}" if recipe["remove"] else ""
    return (
        f"Texts are prepared by `{recipe['preparation']}`{removed}; of a longer one the {recipe['keep']}"
        f" {recipe['length']} tokens are read."
    )


def _start(manifest: Manifest) -> str:
    start = manifest.trained.get("start")
    vectors = manifest.trained.get("vectors", "none")
    if start:
        return f"\nIts words and first weights are those of the bundle {start['name']} ({start['sha256'][:8]})."
    return "" if vectors == "none" else f"\nIts first word vectors are {vectors}."


def _of_these(manifest: Manifest) -> str:
    """Which of the posts in the files a task takes, where it says so."""
    task = TASKS.get(manifest.trained["recipe"]["task"])
    return f" ({task.takes})" if task and task.takes and not manifest.trained.get("own_posts") else ""


def _afterwards(manifest: Manifest) -> str:
    """What was made of the bundle once it was trained."""
    trained = manifest.trained
    told = ["`model quantize` made its matrices int8 afterwards."] if "quantized_from" in trained else []
    if "calibrated" in trained:
        told.append(f"`model calibrate` fitted its probabilities anew to {trained['calibrated']['posts']:,} posts.")
    return "".join(f"\n{sentence}" for sentence in told)


def _history(history: Sequence[Mapping[str, Any]]) -> str:
    if not history:
        return ""
    names = [name for name in HISTORY_COLUMNS if name in history[0]]
    lines = [f"| epoch | {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {epoch['epoch'] + 1} | " + " | ".join(f"{epoch[name]:.4f}" for name in names) + " |" for epoch in history
    ]
    return "\nEpoch by epoch; all but the loss is of the posts held out:\n\n" + "\n".join(lines) + "\n"


def _int8_lines(paired: Mapping[str, Any]) -> Iterator[str]:
    """What rounding to int8 did to size and figures, as `quantize` measured it."""
    if not paired:
        return
    yield "\n## Before and after int8"
    yield f"On {paired['posts']:,} posts ({paired['data']}); {paired['different_predictions']:,} got another label"
    yield "(the test posts above were read again by the int8 bundle alone):"
    yield "\n| measure | before | after | difference | 95% interval |\n|---|---|---|---|---|"
    yield f"| bytes of weights | {paired['bytes_before']:,} | {paired['bytes_after']:,} |  |  |"
    for name in ("accuracy", "macro_recall"):
        row = paired[name]
        figures = f"{row['first']:.4f} | {row['second']:.4f} | {row['difference']:+.4f}"
        yield f"| {name.replace('_', ' ')} | {figures} | {row['low']:+.4f} to {row['high']:+.4f} |"


def _words(words: Mapping[str, Sequence[tuple[str, float]]]) -> str:
    """The words of most weight of a linear bundle, strongest first."""
    lines = [
        f"- {side}: {', '.join(f'{word} {value:+.2f}' for word, value in found)}"
        for side, found in sorted(words.items())
    ]
    told = "\n## Its most positive and most negative words\nWhat each adds to the log-odds of pos_prob, alone:\n\n"
    return told + "\n".join(lines) + "\n" if lines else ""


def run_lines(report: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown: the recipe's own runs and its variants, where there is more than one, and what it is held to.

    Columns are as wide as their cells, so that a terminal shows them well too.
    """
    rows = report.get("runs", [])
    lines = list(_run_lines(rows)) if len(rows) > 1 or any(row["runs"] > 1 for row in rows) else []
    return [*lines, "", f"The recipe is held to: {report['must_reach']}."] if report.get("must_reach") else lines


def _run_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    yield "The recipe beside its variants: means over the runs of each, with standard deviations, on the test posts."
    yield ""
    cells = [RUN_COLUMNS, *map(_run_cells, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(RUN_COLUMNS))]
    lines = [f"| {' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))} |" for row in cells]
    yield lines[0]
    yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    yield from lines[1:]
    yield ""
    yield from (f"- {row['name']}: {_changes(row['changes'])}" for row in rows if row["changes"])


def _run_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    figures = (_spread(row[key]) for key in ("accuracy", "macro_recall", "macro_f1", "development"))
    over = row["over"] if row["runs"] > 1 else row["over"].removesuffix("s")
    return (row["name"], f"{row['runs']} {over}", *figures, row["seed_says"])


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4f}"
    spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f"{mean:.4f} ± {spread:.4f}"


def _changes(changes: Mapping[str, Any], prefix: str = "") -> str:
    return ", ".join(
        _changes(value, f"{prefix}{key}.") if isinstance(value, Mapping) else f"{prefix}{key} {value}"
        for key, value in changes.items()
    )


CARD_TEXT = """# {name}

{description}. Classes: {classes}. Languages: {languages}.

## What it is
{network}; {parameters:,} parameters, {mebibytes:.1f} MiB {stored}. {reading}

## What it was trained on
`sentiment-monitor model train {recipe}{options}`, seed {seed}, with {files}: {training_posts:,} posts to train on, and
{held_out:,} held out {purpose}. The test posts were read when it was done, by each run once, and chose nothing.{start}
{history}
## How good it is
{table}

Log loss and ECE of pos_prob weigh the classes alike, as the calibration does. By class:

{class_table}
{int8}{words}{runs}
## What it is for, and what it is bad at
For texts like those that it was trained on, to be compared with other networks; to watch a brand, the bundle that
ships reads posts of any year better. It reads English; other languages get scores that mean little. It is not made
for judging persons.
"""
