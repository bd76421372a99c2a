"""How well a recipe does on a source of posts that its training had nothing of: `model evaluate --hold-out SOURCE`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.corpora import check_sources, find_data, load_development, load_sources
from models.holdouts import DEVELOPMENT_SOURCE
from models.hub import path_of
from models.manifest import MANIFEST, read_manifest
from models.protocol import origin_of, sided_accuracy, without_source
from models.recipe import Recipe, find_recipe, read_recipe
from models.train import train
from models.training_posts import data_hashes

RECIPE = "social-gru"


def measure_without(source: str, data: Path | str | None, out: Path, recipe: str | Path = RECIPE) -> dict[str, Any]:
    """Two-class accuracy on `source` of `recipe` trained at small scale without it, on posts with a side.

    The bundle is kept under `out` and trained again only where recipe or data are others. Raises CorpusError,
    RecipeError.
    """
    check_sources([source])
    place = find_data(None if data is None else path_of(data))
    leave_out = origin_of(source)
    plan = read_recipe(find_recipe(recipe))
    folder = out / f"{plan.name}-without-{source}"
    small = without_source(plan, leave_out)
    if not _is_of(folder, small, data_hashes(small, place, leave_out)):
        train(recipe, data, folder, leave_out=leave_out)
    corpus = load_sources(place, [source])[source]
    if source == DEVELOPMENT_SOURCE:  # its development posts stop the training and fit the calibration all the same
        corpus = corpus.without(set(load_development(place, plan.development_posts).keys))
    return {
        "recipe": plan.name,
        "left_out": list(leave_out),
        **sided_accuracy(Bundle.load(folder, "cpu"), corpus),
    }


def _is_of(folder: Path, plan: Recipe, hashes: Mapping[str, str]) -> bool:
    """Whether a bundle of this plan and these data lies there."""
    if not (folder / MANIFEST).is_file():
        return False
    trained = read_manifest(folder).trained
    return trained.get("recipe") == json.loads(json.dumps(asdict(plan))) and trained.get("data_sha256") == hashes
