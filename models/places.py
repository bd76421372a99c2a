"""Where bundles are written to: names and folders are checked before any time is spent."""

import tempfile
from pathlib import Path

from models.manifest import (
    CALIBRATION,
    CARD,
    MANIFEST,
    MAX_NAME_CHARS,
    REPORT,
    TOKENIZER,
    WEIGHTS,
    BundleError,
    read_manifest,
)
from models.recipe import RecipeError

OWN_FILES = {CALIBRATION, CARD, MANIFEST, REPORT, TOKENIZER, WEIGHTS}


def require_new(out: Path) -> None:
    """Raise BundleError where something is at `out`, or no bundle can be written there."""
    if out.exists():
        raise BundleError(f"{out} is there already: name a new folder")
    require_writable(out)


def require_writable(folder: Path) -> None:
    """Raise BundleError unless files can be written into the folder, or it can be made."""
    place = folder if folder.exists() else folder.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=place):
            pass
    except OSError as error:
        raise BundleError(f"{folder} cannot be written: {error.strerror}") from error


def training_folder(out: Path, recipe: str, init: Path | None) -> Path:
    """`out`, where a training of `recipe` is to leave its bundle, in place of an earlier one of the same recipe.

    Raises RecipeError where its name can be no bundle's, and where it holds something else, or the bundle that the
    training starts from.
    """
    folder = out if out.name else out.resolve()
    if not 0 < len(folder.name) <= MAX_NAME_CHARS or not folder.name.isprintable():
        raise RecipeError(
            f"a bundle is named like its folder, with 1 to {MAX_NAME_CHARS} characters that can be printed,"
            f" which {str(folder)!r} does not end in"
        )
    require_writable(folder)
    if init is not None and init.resolve() == folder.resolve():
        raise RecipeError(f"{folder} is the bundle to start from: name another folder with --out")
    _require_own(folder, recipe)
    return folder


def _require_own(folder: Path, recipe: str) -> None:
    strangers = sorted(
        path.name
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.name not in OWN_FILES and path.suffix != ".png"
    )
    if strangers:
        raise RecipeError(f"{folder} holds other files than a bundle's, such as {strangers[0]}: name a new folder")
    try:
        made_by = read_manifest(folder).trained.get("recipe", {}).get("name", recipe)
    except (BundleError, AttributeError):
        return  # none there, or the rest of a training that was cut off while it was written
    if made_by != recipe:
        raise RecipeError(f"{folder} holds a bundle of the recipe {made_by}: name another folder with --out")
