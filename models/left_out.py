"""Whether the figures of a source left out of training are of the recipe, and of a kind of teacher, of a bundle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from models.protocol import without_source
from models.recipe import Recipe, RecipeError, list_recipes, recipe_of

TEACHER = "social-teacher"


def teacher_recipes(trained: Mapping[str, Any]) -> list[str]:
    """The names of the recipes of a bundle's teachers, in order; the smaller teacher's where none was noted.

    `trained` is what its manifest says of its training.
    """
    return [one["recipe"] for one in trained.get("teachers", ()) if one.get("recipe")] or [TEACHER]


def default_teacher(trained: Mapping[str, Any]) -> str:
    """The first of these recipes that is shipped; the smaller teacher's where none is."""
    return next((recipe for recipe in teacher_recipes(trained) if recipe in list_recipes()), TEACHER)


def digest_of(plan: Recipe) -> str:
    """The SHA-256 of what a recipe says but for its seed, its words about itself and what is as it is without a word.

    So a key that recipes get later changes none that does not have it.
    """
    told = {key: value for key, value in _told(plan).items() if key not in ("description", "seed")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _told(part: Any) -> Any:
    if is_dataclass(part):
        told = {field.name: (field.default, getattr(part, field.name)) for field in fields(part)}
        return {name: _told(value) for name, (default, value) in told.items() if value != default}
    if isinstance(part, Mapping):
        return dict(part)
    return [_told(one) for one in part] if isinstance(part, tuple) else part


def mark_others(found: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    """What `hold_out_source` measured of sources, marked `other_recipe` where not as the bundle was `trained`.

    An earlier form of its recipe is another one, so is one at a `scale` which meant something else, and so is one that
    a teacher taught whose recipe has another name than those of the bundle's.
    """
    told = {source: {key: one[key] for key in one if key != "other_recipe"} for source, one in found.items()}
    return {source: one | ({} if _is_of(one, trained) else {"other_recipe": True}) for source, one in told.items()}


def _is_of(one: Mapping[str, Any], trained: Mapping[str, Any]) -> bool:
    plan = recipe_of({"recipe": trained["whole_recipe"]} if "whole_recipe" in trained else trained)
    if plan is None or "recipe_sha256" not in one:
        return False
    if "teacher" in one and one["teacher"].get("recipe") not in teacher_recipes(trained):
        return False
    try:
        return bool(one["recipe_sha256"] == digest_of(without_source(plan, one["left_out"], one["scale"])))
    except RecipeError:  # it learns from no other source
        return False
