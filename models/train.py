"""Training a bundle from a recipe: `sentiment-monitor model train RECIPE`."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from models.bundle import save_bundle
from models.calibrate import fit_calibration
from models.corpora import CLASSES, OWN_LABELS, Corpus, find_data, merge
from models.encoder_files import encoder_folder
from models.evaluate import evaluate, render, report_on, save_report
from models.holdouts import Split
from models.hub import path_of
from models.kinds import refuse_other_kinds
from models.manifest import TOKENIZER, BundleError, Manifest, read_manifest
from models.mixture import EncodedCorpus, Mixture
from models.network_weights import read_weights
from models.networks import GruClassifier
from models.places import training_folder
from models.precision import half_precision
from models.protocol import at_scale, without_source
from models.recipe import SENTENCE_ENCODER, Recipe, RecipeError, find_recipe, read_recipe, read_tree
from models.reports import load_report
from models.shapes import GruShape
from models.soft_labels import taught_by
from models.task_card import run_lines
from models.task_recipe import is_task_recipe
from models.task_report import is_task_bundle
from models.task_train import Options, train_task
from models.teacher import Teacher, held_out_sha256, new_teacher
from models.tokenizer import TextEncoder
from models.trainer import Trainer, logits_of, mix_weights
from models.training_posts import load_posts
from models.vocabulary import (
    cut_vocabulary,
    initial_vectors,
    learn_vocabulary,
    read_vocabulary,
    wordpiece,
)

LOG = logging.getLogger(__name__)
SHIPPED_BUNDLES = Path(__file__).parent / "bundles"


def train(
    recipe: str | Path,
    data: Path | str | None = None,
    out: Path | None = None,
    init: Path | None = None,
    seed: int | None = None,
    leave_out: tuple[str, ...] = (),
    scale: str = "full",
    teachers: Sequence[Path] = (),
    **more: Any,
) -> Path:
    """Train `recipe` and write its bundle to `out`, whose name it has; returns that folder.

    `out` is by default `bundles/RECIPE`, of a recipe of several corpora at small scale `bundles/RECIPE-small`.
    `data` is the folder of the corpora (default `SENTIMENT_DATA`) or a CSV of one's own with text and label columns,
    for the recipes of one task also `hub:` and the name of a data set;
    `init` a bundle to start from, whose vocabulary is kept: with a CSV and a shipped recipe's name that recipe's
    shipped bundle, unless another is given. `teachers` are bundles of a teacher's recipe: the mean of what they say is
    learnt, and of each its states where the recipe has a `hint_weight`. An interrupted training goes on from its
    checkpoint beside `out` when called again. The `scale` is small or full: a recipe of one task has a small size of
    its own, for others see `protocol.at_scale`. With sources to `leave_out` it is a training without them, whose bundle
    is not measured. `more`: what `task_train.Options` has beyond that, for the recipes of one task. Raises RecipeError,
    CorpusError, BundleError before any time is spent.
    """
    path = find_recipe(recipe)
    if is_task_recipe(path):
        if teachers:
            raise RecipeError(f"{path.stem} learns from labels alone: --teacher has no use")
        task = f"-{more['task']}" if more.get("task") else ""
        folder = training_folder(out or Path("bundles") / f"{path.stem}{task}", str(read_tree(path).get("name")), init)
        return train_task(path, folder, Options(data, init, seed, scale, **more))
    if more:
        raise RecipeError(f"{path.stem} is trained as a whole: {', '.join(more)} is for the recipes of one task")
    data = None if data is None else path_of(data)
    plan = _read_plan(path, leave_out, scale, seed)
    place = find_data(data)
    if scale != "full" and place.is_file():
        raise RecipeError(f"of a CSV {plan.name} learns all posts: --scale has no use")
    is_teacher = plan.network.kind == SENTENCE_ENCODER
    init = init or (None if is_teacher else _usual_start(recipe, place))
    suffix = "" if scale == "full" else f"-{scale}"  # beside a bundle of hours
    folder = training_folder(out or Path("bundles") / f"{plan.name}{suffix}", plan.name, init)
    plan, loaded = _with_teachers(plan, teachers, place)
    plan, starts_from = _with_start(plan, init)
    LOG.info("reading labelled posts")
    plan, posts, hashes = load_posts(plan, place, leave_out)
    told = _told_of_teaching(plan, posts, dict(zip(teachers, loaded, strict=True)))
    told |= {} if scale == "full" or leave_out else {"scale": scale, "whole_recipe": asdict(read_recipe(path))}
    sources, development = posts.training, posts.development
    LOG.info("training on %d posts, %d held out", sum(map(len, sources.values())), len(development))
    encoder, network = new_teacher(plan) if is_teacher else _start(plan, sources, init, starts_from)
    encoded = {name: _encode(encoder, corpus) for name, corpus in sources.items()}
    held_out = _encode(encoder, development)
    mixtures = _mixtures(plan, encoded, encoder)
    if loaded:
        mixtures = _mixtures(plan, taught_by(loaded, sources, encoded, mixtures, folder), encoder)
    trainer = Trainer(network, plan, mixtures, held_out)
    checkpoint = folder.with_name(f"{folder.name}.checkpoint")
    trainer.run(checkpoint, _fingerprint(plan, hashes, starts_from, loaded))
    if init is not None and starts_from is not None and plan.start_share:
        mix_weights(trainer.network, read_weights(init), plan.start_share)
    to_calibrate = _encode(encoder, _to_calibrate(posts, is_teacher=is_teacher))
    _write(folder, plan, trainer, encoder, to_calibrate, hashes, starts_from, told, len(development))
    if not leave_out and not is_teacher:
        LOG.info("measuring %s", folder.name)
        own = {"development": development} if OWN_LABELS in sources else None
        save_report(folder, evaluate(folder, data) if own is None else report_on(folder, own, []))
    checkpoint.unlink(missing_ok=True)
    return folder


def told_of(folder: Path) -> str:
    """What is printed of a training: its bundle's folder, below the figures of the task where it has one."""
    if not is_task_bundle(read_manifest(folder)):
        return str(folder)
    report = load_report(folder)
    return "\n".join([render(report), *run_lines(report), "", str(folder)])


def _usual_start(recipe: str | Path, data: Path) -> Path | None:
    """The shipped bundle of a shipped recipe for posts of one's own: too few to teach a network all its words."""
    shipped = SHIPPED_BUNDLES / recipe
    is_named = Path(recipe).suffix == "" and Path(recipe).name == str(recipe)
    return shipped if is_named and data.is_file() and shipped.is_dir() else None


def _read_start(init: Path) -> Manifest:
    """The manifest of the bundle to start from. Raises BundleError if it is not whole, or of other kind or classes."""
    manifest = read_manifest(init)
    refuse_other_kinds(manifest, "trained on")
    if manifest.classes != CLASSES:
        raise BundleError(f"{init} has the classes {', '.join(manifest.classes)}; training needs {', '.join(CLASSES)}")
    return manifest


def _encode(encoder: TextEncoder, corpus: Corpus) -> EncodedCorpus:
    return EncodedCorpus.of(encoder.encode(corpus.texts), corpus.labels)


def _read_plan(path: Path, leave_out: tuple[str, ...], scale: str, seed: int | None) -> Recipe:
    """The recipe as it is asked for. Raises RecipeError."""
    plan = read_recipe(path)
    plan = without_source(plan, leave_out, scale) if leave_out else at_scale(plan, scale)
    return plan if seed is None else replace(plan, seed=seed)


def _with_start(plan: Recipe, init: Path | None) -> tuple[Recipe, Manifest | None]:
    """The recipe as it goes on from a bundle, and that bundle's manifest. Raises BundleError, RecipeError."""
    if init is None:
        require_encoder(plan)
        return plan, None
    if plan.network.kind == SENTENCE_ENCODER:
        raise RecipeError(f"{plan.name} starts from a pretrained encoder: --init has no use")
    starts_from = _read_start(init)
    return replace(plan, preparation=starts_from.preparation, max_tokens=starts_from.max_tokens), starts_from


def require_encoder(plan: Recipe) -> None:
    """Raises RecipeError where the pretrained encoder that a recipe starts from, if any, is not installed."""
    if plan.network.kind == SENTENCE_ENCODER:
        encoder_folder(plan.network.encoder)
    elif plan.vocabulary.start == "encoder":
        encoder_folder()


def _told_of_teaching(plan: Recipe, posts: Split, teachers: Mapping[Path, Teacher]) -> dict[str, Any]:
    """What the manifest says of it. Raises RecipeError where a teacher has seen what its pupil must not."""
    if plan.network.kind == SENTENCE_ENCODER:
        return {"held_out_sha256": held_out_sha256(posts)}
    held_out = held_out_sha256(posts) if teachers else ""
    for folder, teacher in teachers.items():
        if teacher.held_out_sha256 != held_out:
            raise RecipeError(
                f"{folder} has learnt from posts that {plan.name} holds out: train it again on these data"
            )
    return {"teachers": [teacher.told() for teacher in teachers.values()]} if teachers else {}


def _with_teachers(plan: Recipe, folders: Sequence[Path], place: Path) -> tuple[Recipe, list[Teacher]]:
    """The recipe as it will run, and its teachers.

    Raises RecipeError, BundleError where one is missing or of no use.
    """
    if folders and not plan.teacher_share:
        raise RecipeError(f"{plan.name} has no teacher_share: --teacher has no use")
    if folders:
        found = [Teacher(folder) for folder in folders]
        if len({teacher.sha256 for teacher in found}) < len(found):
            raise RecipeError("--teacher names the same teacher twice: train another with --seed and --out")
        return plan, found
    if plan.teacher_share and not place.is_file():
        raise RecipeError(
            f"{plan.name} learns from a teacher: train one with `sentiment-monitor model train social-teacher`"
            " or `social-teacher-mpnet`, then name its folder with --teacher"
        )
    return replace(plan, teacher_share=0.0, hint_weight=0.0), []


def _to_calibrate(posts: Split, *, is_teacher: bool) -> Corpus:
    """Random posts of the sources where some were held out: the development posts chose the weights, and are of one
    source. A teacher, which is not measured, has both."""
    if is_teacher:
        return merge([posts.development, posts.calibration])
    return posts.calibration if len(posts.calibration) else posts.development


def _mixtures(plan: Recipe, encoded: Mapping[str, EncodedCorpus], encoder: TextEncoder) -> list[Mixture]:
    return [Mixture(plan, i, encoded, encoder.tokenizer.get_vocab()) for i in range(len(plan.stages))]


def _start(
    plan: Recipe, sources: Mapping[str, Corpus], init: Path | None, manifest: Manifest | None
) -> tuple[TextEncoder, GruClassifier]:
    """Encoder and network before the first step: those of `init`, else from the recipe's vocabulary and seed."""
    torch.manual_seed(plan.seed)
    dropouts = {"dropout": plan.network.dropout, "token_dropout": plan.network.token_dropout}
    if init is not None and manifest is not None:
        encoder = TextEncoder.load(init / TOKENIZER, manifest.preparation, manifest.max_tokens)
        network = GruClassifier(GruShape(**manifest.network), **dropouts)
        network.load_state_dict(read_weights(init))
        return encoder, network
    texts = [text for corpus in sources.values() for text in corpus.texts]
    if plan.vocabulary.start == "texts":
        vocabulary = learn_vocabulary(texts, plan.vocabulary.max_size, plan.vocabulary.min_count)
    else:
        vocabulary = cut_vocabulary(read_vocabulary(encoder_folder()), texts, plan.vocabulary.min_count)
    network = GruClassifier(
        GruShape(len(vocabulary), plan.network.embedding, plan.network.hidden, len(CLASSES)), **dropouts
    )
    if plan.vocabulary.start == "encoder":
        vectors = initial_vectors(vocabulary, encoder_folder(), plan.network.embedding)
        network.embedding.weight.data.copy_(torch.from_numpy(vectors))
    return TextEncoder(wordpiece(vocabulary), plan.preparation, plan.max_tokens), network


def _fingerprint(
    plan: Recipe, hashes: Mapping[str, str], starts_from: Manifest | None, teachers: Sequence[Teacher]
) -> str:
    """What a checkpoint must agree with to be gone on from."""
    parts: list[Any] = [asdict(plan), dict(hashes), starts_from.sha256 if starts_from else None]
    parts.append([teacher.sha256 for teacher in teachers])  # in their order: each one's hints have a map of their own
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _write(
    folder: Path,
    plan: Recipe,
    trainer: Trainer,
    encoder: TextEncoder,
    held_out: EncodedCorpus,
    hashes: Mapping[str, str],
    starts_from: Manifest | None,
    told: Mapping[str, Any],
    n_development: int,
) -> None:
    network = trainer.network
    with half_precision(network.output.weight.device, wanted=plan.half_precision):
        logits = logits_of(network, held_out.ids)
    calibration = fit_calibration(logits, held_out.labels)
    trained: dict[str, Any] = {"recipe": asdict(plan), "data_sha256": dict(hashes), "history": trainer.history}
    trained["held_out_posts"] = n_development
    trained |= told
    if starts_from is not None:
        trained["start"] = {"name": starts_from.name, "sha256": starts_from.sha256}
    manifest = Manifest(
        name=folder.name,
        classes=CLASSES,
        languages=plan.languages,
        preparation=plan.preparation,
        max_tokens=plan.max_tokens,
        network=network.shape.numbers(),
        files={},
        trained=trained,
    )
    save_bundle(folder, manifest, network.state_dict(), encoder.tokenizer.to_str(pretty=False), calibration)
    LOG.info("wrote %s", folder)
