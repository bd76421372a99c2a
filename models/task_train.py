"""Training the bundle of a task recipe, and its repeats and variants, each once: what has ended is not run again."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.corpora import Corpus
from models.fitting import Checkpoint, Fitter, Labelled, Posts, Start, write_bundle
from models.labelled import tasks_of
from models.linear_fit import check_linear, fit_linear
from models.manifest import CLASSES_TWO, MANIFEST, REPORT, BundleError, file_sha256, read_manifest
from models.neural_fit import fit_network
from models.recipe import RecipeError
from models.reports import NETWORK, load_report, write_report
from models.task_card import render_task_card
from models.task_plans import Repeats
from models.task_recipe import MAIN, TaskRecipe, Variant, plain, read_task_recipe, runs_of
from models.task_report import report_on_task
from models.tasks import Split, class_indices, find_task, is_own, load_task
from models.vectors import check_vectors

LOG = logging.getLogger(__name__)
FITTERS: Mapping[str, Fitter] = {"recurrent": fit_network, "cnn": fit_network, "linear": fit_linear}
_ONLY_SHOWN = ("description", "repeats", "seed_says", "must_reach")  # of a recipe: no run differs by it
FIGURES = ("accuracy", "macro_recall", "macro_f1")


@dataclass(frozen=True)
class Options:
    """What a command adds to a recipe."""

    data: Path | str | None = None
    init: Path | None = None
    seed: int | None = None
    scale: str = "full"
    vectors: Path | None = None
    with_variants: bool = True
    task: str | None = None  # another than the recipe's


@dataclass(frozen=True)
class Run:
    """One training: a variant's recipe with the run's own seed, on one split, whose bundle goes to `folder`."""

    variant: Variant
    recipe: TaskRecipe
    split: int
    folder: Path


def train_task(path: Path, out: Path, options: Options) -> Path:
    """Train the recipe in `path`, its repeats and variants, and write its bundle to `out`; returns that folder.

    The bundles of the other runs lie in `OUT.runs`. From a bundle (`init`) one training goes on: words and network are
    that bundle's, whatever the variants say of theirs. Raises RecipeError, CorpusError, BundleError before any time is
    spent.
    """
    variants = _variants(path, options)
    main = variants[0].recipe
    start = _start(main, options)
    runs = list(_runs(variants, out))
    wanted = dict.fromkeys((run.recipe.task, run.split) for run in runs)
    splits = {key: load_task(key[0], options.data, key[1]) for key in wanted}
    for run in runs:
        _check(run, splits[run.recipe.task, run.split])
    for run in runs:
        _run(run, splits[run.recipe.task, run.split], start, options)
    report = load_report(out) | {"runs": _summary(runs), "must_reach": main.must_reach}
    write_report(out, report, render_task_card)
    return out


def _variants(path: Path, options: Options) -> list[Variant]:
    """Those that are to be trained, the recipe itself first. Raises RecipeError, CorpusError."""
    variants = read_task_recipe(path, options.scale, options.seed)
    if options.task is not None:
        variants = [variant_on(variant, options.task) for variant in variants]
    if options.init is not None or is_own(options.data, variants[0].recipe.task):
        variants = [_without_seed(variant) for variant in variants]
    if options.init is not None:
        return [replace(variants[0], recipe=replace(variants[0].recipe, repeats=Repeats()))]
    return variants if options.with_variants else variants[:1]


def variant_on(variant: Variant, task: str) -> Variant:
    """The same network on the posts of another task, once each; the seed's figures and the bar are of its own task."""
    loss = variant.recipe.loss if find_task(task).classes == CLASSES_TWO else "cross_entropy"
    recipe = replace(variant.recipe, task=task, loss=loss, repeats=Repeats())
    return _without_seed(replace(variant, recipe=recipe, is_on_another_task=task != variant.recipe.task))


def _without_seed(variant: Variant) -> Variant:
    """Without figures of the seed and the bar: they are of the recipe's own posts, from its own beginning."""
    return replace(variant, recipe=replace(variant.recipe, seed_says="", must_reach=""), seed_says="")


def _start(recipe: TaskRecipe, options: Options) -> Start:
    """Check what the training begins from. Raises RecipeError, BundleError."""
    if recipe.kind == "linear":
        check_linear(recipe, options.init or options.vectors)
    if options.init is not None:
        manifest = read_manifest(options.init)
        if manifest.network.get("kind", "gru") != recipe.kind:
            found = manifest.network.get("kind", "gru")
            raise BundleError(f"{options.init} is of the kind {found}; {recipe.name} trains the kind {recipe.kind}")
        return Start(options.init, manifest)
    check_vectors(recipe.vectors, options.vectors)
    return Start(vectors=options.vectors)


def _runs(variants: list[Variant], out: Path) -> Iterator[Run]:
    for variant in variants:
        n_splits = find_task(variant.recipe.task).n_splits
        for i, (split, seed) in enumerate(runs_of(variant.recipe, n_splits)):
            name = f"{variant.name}-{i + 1}".replace(" ", "-").replace("/", "-")
            folder = out if variant.name == MAIN and i == 0 else out.with_name(f"{out.name}.runs") / name
            yield Run(variant, replace(variant.recipe, seed=seed), split, folder)


def _check(run: Run, split: Split) -> None:
    if run.recipe.loss == "bce" and split.classes != CLASSES_TWO:
        raise RecipeError(f"loss bce tells two classes; the posts have {', '.join(split.classes)}")


def _run(run: Run, split: Split, start: Start, options: Options) -> None:
    """Train, write and measure one bundle, unless that has been done."""
    recipe = run.recipe
    if start.manifest is not None:
        if start.manifest.classes != split.classes:
            raise BundleError(f"{start.folder} has the classes {', '.join(start.manifest.classes)}; the posts have"
                              f" {', '.join(split.classes)}")  # fmt: skip
        recipe = _as_started(recipe, start)
    fingerprint = _fingerprint(recipe, run.split, split, start)
    if _is_done(run.folder, fingerprint):
        LOG.info("%s is there already", run.folder.name)
        return
    LOG.info("training %s: %s, split %d, seed %d", run.folder.name, run.variant.name, run.split + 1, recipe.seed)
    posts = _posts(split, recipe.max_posts)
    checkpoint = Checkpoint(run.folder.with_name(f"{run.folder.name}.checkpoint"), fingerprint)
    fitted = FITTERS[recipe.kind](recipe, posts, start, checkpoint)
    trained = {
        "split": run.split,
        "scale": options.scale,
        "data_sha256": dict(split.hashes),
        "vectors": _vectors(recipe, start),
        "fingerprint": fingerprint,
    }
    if split.beside:
        trained["beside_sha256"] = dict(split.beside)
    if is_own(options.data, recipe.task):
        trained["own_posts"] = True
    elif run.variant.is_on_another_task:
        trained["other_task"] = True
    if start.manifest is not None:
        trained["start"] = {
            "name": start.manifest.name,
            "sha256": start.manifest.sha256,
            "tasks": tasks_of(start.manifest),
        }
    write_bundle(run.folder, recipe, split.classes, fitted, posts, trained)
    LOG.info("measuring %s", run.folder.name)
    write_report(run.folder, report_on_task(run.folder, split.test_name, split.read_test()), render_task_card)
    checkpoint.path.unlink(missing_ok=True)


def _as_started(recipe: TaskRecipe, start: Start) -> TaskRecipe:
    """The recipe with the words of the bundle that it starts from."""
    assert start.manifest is not None
    manifest, reading = start.manifest, start.manifest.encoding
    return replace(
        recipe,
        preparation=manifest.preparation,
        length=manifest.max_tokens,
        keep=reading.get("keep", recipe.keep),
        remove=tuple(reading.get("remove", ())),
        ngrams=reading.get("ngrams", 1),
    )


def _posts(split: Split, max_posts: int) -> Posts:
    train = split.train.select(range(len(split.train)))
    if max_posts and max_posts < len(train):
        train = train.select(np.sort(np.random.default_rng(5).permutation(len(train))[:max_posts]).tolist())
    return Posts(_labelled(train, split), _labelled(split.development, split), len(split.classes))


def _labelled(corpus: Corpus, split: Split) -> Labelled:
    return Labelled(corpus.texts, class_indices(corpus, split.classes))


def _vectors(recipe: TaskRecipe, start: Start) -> str:
    """What the first embeddings were, in words."""
    if recipe.vectors == "none" or start.folder is not None:
        return "none"
    return f"those of {start.vectors.name}" if start.vectors else recipe.vectors


def _fingerprint(recipe: TaskRecipe, number: int, split: Split, start: Start) -> str:
    """What a checkpoint or a bundle must agree with to be gone on from, or to be kept."""
    told = {key: value for key, value in plain(recipe).items() if key not in _ONLY_SHOWN}
    vectors = file_sha256(start.vectors) if start.vectors else None
    parts = [told, number, {**split.hashes, **split.beside}, start.manifest.sha256 if start.manifest else None, vectors]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _is_done(folder: Path, fingerprint: str) -> bool:
    if not (folder / MANIFEST).exists() or not (folder / REPORT).exists():
        return False
    try:
        return bool(read_manifest(folder).trained.get("fingerprint") == fingerprint)
    except BundleError:
        return False


def _summary(runs: list[Run]) -> list[dict[str, Any]]:
    """Of each variant the figures of its runs."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        variant, recipe = run.variant, run.variant.recipe
        row = found.setdefault(
            variant.name,
            {
                "name": variant.name,
                "changes": dict(variant.changes),
                "seed_says": variant.seed_says,
                "over": recipe.repeats.over,
                "runs": 0,
                **{key: [] for key in (*FIGURES, "development")},
            },
        )
        report = load_report(run.folder)
        figures = report["sets"][report["headline_set"]][NETWORK]
        row["runs"] += 1
        for key in FIGURES:
            row[key].append(figures[key])
        history = read_manifest(run.folder).trained["history"]
        row["development"] += [max(epoch["accuracy"] for epoch in history)] if history else []
    return list(found.values())
