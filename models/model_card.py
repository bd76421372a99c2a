"""A report as text: the table on the terminal, and the model card of a bundle. Every figure comes from the report."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any

from models.card_sections import sections
from models.corpora import COMPOSED, OWN_LABELS
from models.encoder_files import PUBLISHED
from models.manifest import Manifest

WIDTH = 116  #: of the card's lines
COLUMNS = {
    "posts": "posts",
    "accuracy": "accuracy",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "two_class_accuracy": "two-class",
    "log_loss_balanced": "log loss",
    "ece": "ECE",
    "ece_pos_prob_balanced": "ECE pos_prob",
}
SET_NAMES = {
    "development": "held-out posts",
    "2016test": "SemEval 2016test",
    "plain_posts": "plain posts",
    "hard_posts": "hard posts",
    "composed": "generated posts",
}
STARTS = {
    "encoder": "Subwords and the first values of their vectors are those of the encoder all-MiniLM-L6-v2 (Apache-2.0).",
    "texts": "Its words are the most frequent ones of the training posts.",
}
SOURCE_NAMES = {OWN_LABELS: "posts", COMPOSED: "generated"}
SYSTEMS = ("network", "bag of words", "VADER")


def render(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table that also reads well on a terminal: one row per set and system."""
    rows = [["set", "system", *COLUMNS.values()], *_rows(report)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    size = f"{report['bundle']}: {report['parameters']:,} parameters, {report['bytes'] / 2**20:.1f} MiB"
    speed = f"{size}, {report['posts_per_cpu_second']:,} posts per CPU second"
    return "\n\n".join(["\n".join(lines), speed, *sections(report, SET_NAMES)])


def _rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    for name in sorted(report["sets"], key=_place_in(SET_NAMES)):
        for system in sorted(report["sets"][name], key=_place_in(SYSTEMS)):
            figures = report["sets"][name][system]
            shown = report["bundle"] if system == "network" else system
            yield [SET_NAMES.get(name, name), shown, *(_cell(figures.get(key)) for key in COLUMNS)]


def _place_in(names: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    """A sort key: names in the order given, others by alphabet before them."""
    places = {name: place for place, name in enumerate(names)}
    return lambda name: (places.get(name, -1), name)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def class_table(figures: Mapping[str, Any]) -> str:
    """Precision, recall and F1 by class, as Markdown."""
    lines = ["| class | precision | recall | F1 | posts |", "|---|---|---|---|---|"]
    for name, row in figures["classes"].items():
        lines.append(
            f"| {name} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']:,} |"
        )
    return "\n".join(lines)


def _stage_lines(manifest: Manifest) -> str:
    recipe = manifest.trained.get("recipe", {})
    stages, fresh = recipe.get("stages", []), recipe.get("fresh_epochs", 0)
    told = "\n".join(
        f"- `{stage['name']}`, {'' if _is_run_to_its_end(stage) else 'up to '}{stage['epochs']} epochs of "
        + ", ".join(f"{count:,} {SOURCE_NAMES.get(source, source)}" for source, count in stage["posts"].items())
        for stage in stages
    )
    if manifest.trained.get("teachers") and any(stage["epochs"] > fresh > 0 for stage in stages):
        first = "first epoch" if fresh == 1 else f"first {fresh} epochs"
        told += f"\n\nWhat teachers were asked about was drawn in a stage's {first}; later ones had it again."
    return told


def _is_run_to_its_end(stage: Mapping[str, Any]) -> bool:
    """Whether a stage keeps the weights of its last epoch, whatever the posts held out say of them."""
    return stage.get("patience") == 0


def render_card(manifest: Manifest, report: Mapping[str, Any]) -> str:
    """The model card (Mitchell et al. 2019, arXiv:1810.03993) of a bundle, in Markdown."""
    recipe = manifest.trained.get("recipe", {})
    network = manifest.network
    first = report["sets"][report["headline_set"]]["network"]
    is_own = any(OWN_LABELS in stage["posts"] for stage in recipe.get("stages", []))
    parts = OWN_PARTS if is_own else CORPORA_PARTS
    return CARD_TEXT.format(
        name=manifest.name,
        description=recipe.get("description", ""),
        classes=", ".join(manifest.classes),
        languages=", ".join(manifest.languages),
        hidden=network["hidden"],
        n_tokens=network["n_tokens"],
        embedding=network["embedding"],
        parameters=report["parameters"],
        mebibytes=report["bytes"] / 2**20,
        start=_start(manifest),
        origin=_origin(manifest, parts["origin"]),
        checks=CHECKS if {"plain_posts", "hard_posts"} & set(report["sets"]) else "",
        figures=parts["figures"],
        limits=parts["limits"].format(languages=", ".join(manifest.languages)),
        headline_set=_sentence_start(SET_NAMES.get(report["headline_set"], report["headline_set"])),
        table=render(report),
        class_table=class_table(first),
    )


def _start(manifest: Manifest) -> str:
    """Where words and first weights come from."""
    bundle = manifest.trained.get("start")
    if bundle:
        return f"Its words and first weights are those of the bundle {bundle['name']} ({bundle['sha256'][:8]})."
    return STARTS.get(manifest.trained.get("recipe", {}).get("vocabulary", {}).get("start", ""), "")


def _scale_option(trained: Mapping[str, Any]) -> str:
    return " --scale small" if trained.get("scale") == "small" else ""


def _sentence_start(words: str) -> str:
    return words[:1].upper() + words[1:]


def _origin(manifest: Manifest, text: str) -> str:
    recipe = manifest.trained.get("recipe", {})
    last = recipe.get("stages", [])[-1:]
    scale = _scale_option(manifest.trained)
    return text.format(
        recipe=recipe.get("name", manifest.name),
        command=f"sentiment-monitor model train {recipe.get('name', manifest.name)}{scale}",
        seed=recipe.get("seed", ""),
        stages=_stage_lines(manifest) + _taught(manifest),
        calibrated=_calibrated(manifest),
        purpose="to choose the recipe" if any(map(_is_run_to_its_end, last)) else "for early stopping",
        held_out=manifest.trained.get("held_out_posts", recipe.get("development_posts", 0)),
        files=", ".join(manifest.trained.get("data_sha256", {})),
    )


def _taught(manifest: Manifest) -> str:
    """What teachers had to say in it."""
    teachers = manifest.trained.get("teachers")
    if not teachers:
        return ""
    recipe = manifest.trained.get("recipe", {})
    share = recipe.get("teacher_share", 0.0)
    drawn = {source for stage in recipe.get("stages", ()) for source in stage["posts"]}
    shares = {"all": drawn & set(recipe.get("untaught", ())), "none": drawn & set(recipe.get("untrusted", ()))}
    told = [f"{word} of it for {_named(sources)} posts" for word, sources in shares.items() if sources]
    other = f" ({', '.join(told)})" if told else ""
    recalls = ", ".join(f"{teacher.get('macro_recall', 0.0):.3f}" for teacher in teachers)
    who = "a teacher says of it" if len(teachers) == 1 else f"{len(teachers)} teachers say of it on average"
    text = (
        f"{share:.0%} of what it was to say of a post is what {who} (Hinton et al. 2015, arXiv:1503.02531), the rest is"
        f" the post's label{other}. {_kinds_of(teachers)} They had held out the"
        f" same posts. Macro recall on the development posts: {recalls}."
    )
    if recipe.get("hint_weight"):
        text += (
            " The network's state before its output also learnt to be mapped to each teacher's, by a linear map that"
            " was thrown away (hints, Romero et al. 2015, arXiv:1412.6550; cosine distance, weight"
            f" {recipe['hint_weight']:g})."
        )
    return "\n\n" + fill(text, WIDTH, break_on_hyphens=False)


def _kinds_of(teachers: Sequence[Mapping[str, Any]]) -> str:
    """What they are and by which recipes. Manifests of before these were noted are of the smaller ones."""
    kinds = sorted(
        {((t.get("recipe") or "social-teacher") + _scale_option(t), t.get("encoder") or "minilm") for t in teachers}
    )
    told = [
        f"{PUBLISHED.get(encoder, encoder)} (`sentiment-monitor model train {recipe}`)" for recipe, encoder in kinds
    ]
    return f"Teachers are transformers with an output for the classes, too slow to serve: {' and '.join(told)}."


def _named(sources: Iterable[str]) -> str:
    return " and ".join(sorted(SOURCE_NAMES.get(source, source) for source in sources))


def _calibrated(manifest: Manifest) -> str:
    """What else was held out, and what a bundle to start from may have seen of it."""
    recipe = manifest.trained.get("recipe", {})
    counts = [recipe.get(key, 0) for key in ("calibration_posts", "measuring_posts")]
    if not any(counts):
        return " and for the calibration"
    told = (
        "; {:,} random posts of those of the\nlast stage's sources that have all three classes fit the calibration,"
        " {:,} more,\nbut for near-copies, measure it"
    ).format(*counts)
    return told + (". The bundle to start from had trained on posts of both" if manifest.trained.get("start") else "")


CHECKS = "\nThe plain and hard posts were written before the first training and are never trained on.\n"

#: what is said of a training on the public corpora
CORPORA_PARTS = {
    "origin": """`{command}`, seed {seed}. Posts of public research corpora in each epoch:

{stages}

{held_out:,} tweets of SemEval 2013-2015 were held out {purpose}{calibrated}. The split
`2016test` was left out of all training, by text, and is read for the figures below; the weight of the prior in
corrected daily means was chosen with it in sight. `manifest.json` has the hashes of the data and the course of the
training.""",
    "figures": "",
    "limits": """\
For the mean over many posts about a brand. A single post is often misread: sarcasm, comparisons in which the brand
loses or wins, praise and complaint in one post, news whose event is good or bad while its tone is neutral, and slang
younger than 2020, which hardly any training post has. It reads English; other languages get scores that mean little.
Most training posts are tweets of 2009 to 2016. Labels of the corpora disagree with each other on what is neutral. It
is not made for judging persons.""",
}

#: and of one on posts of one's own
OWN_PARTS = {
    "origin": """`sentiment-monitor model train {recipe} --data {files}`, seed {seed}. Posts of that file in each epoch:

{stages}

{held_out:,} other posts of the file were held out for early stopping and for the calibration. `manifest.json` has the
hash of the file and the course of the training.""",
    "figures": """
The held-out posts were not trained on, but the epoch and the calibration were chosen by them: on other posts the
figures may be a little worse. `sentiment-monitor model evaluate` measures on labelled posts that took no part.
""",
    "limits": """\
For the mean over many posts like those that it was trained on. A single post is often misread: sarcasm, comparisons,
praise and complaint in one post, news whose event is good or bad while its tone is neutral. Languages: {languages};
others get scores that mean little. It is not made for judging persons.""",
}

CARD_TEXT = """# {name}

{description}. Classes: {classes}. Languages: {languages}.

## What it is
One bidirectional GRU layer of {hidden} units per direction with mean and max pooling, over {n_tokens:,} lower-case
subwords of width {embedding}; {parameters:,} parameters, {mebibytes:.1f} MiB in fp16.
{start}

## What it was trained on
{origin}

## How good it is
{table}
{figures}
Log loss and ECE of pos_prob weigh the classes alike, as the calibration does: probabilities hold for a population
with equal shares of the classes. In pos_prob a neutral post counts 0.5. "Two-class" is pos_prob >= 0.5 on posts with
a side. {headline_set} by class:

{class_table}
{checks}
## What it is for, and what it is bad at
{limits}
"""
