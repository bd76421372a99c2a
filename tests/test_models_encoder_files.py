"""An encoder's files come out of the parts its packages carry whole and as published, or not at all."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from models.encoder_files import encoder_folder, join_parts
from models.recipe import RecipeError

WEIGHTS = bytes(range(256)) * 9
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def write_parts(folder: Path, *, without: str = "") -> list[Path]:
    """An archive as the packages have it, in three parts, with a file of the same name deeper inside."""
    members = {"config.json": b"{}", "1_Pooling/config.json": b"other", "model.safetensors": WEIGHTS}
    members |= {"tokenizer.json": b"[]", "README.md": b"about"}
    with zipfile.ZipFile(folder / "whole.zip", "w") as archive:
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
    """Nothing else is left beside it; joined again, what lies there stays."""
    folder = tmp_path / "cache" / "encoder"
    parts = write_parts(tmp_path)
    for _ in range(2):
        join_parts(parts, folder, SHA256)
        assert sorted(path.name for path in folder.parent.iterdir()) == ["encoder"]
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert found == {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": b"[]"}


def test_what_is_not_what_was_published_is_not_used(tmp_path: Path) -> None:
    """Other weights, a part that is missing, an archive without a file."""
    folder = tmp_path / "cache" / "encoder"
    parts = write_parts(tmp_path)
    with pytest.raises(RecipeError, match=f"have the SHA-256 {SHA256}, not 00: they are not used"):
        join_parts(parts, folder, "00")
    with pytest.raises(RecipeError, match="no archive of an encoder"):
        join_parts(parts[:2], folder, SHA256)
    with pytest.raises(RecipeError, match=r"no archive of an encoder.*tokenizer\.json"):
        join_parts(write_parts(tmp_path, without="tokenizer.json"), folder, SHA256)
    assert list(folder.parent.iterdir()) == []


def test_packages_that_are_missing_are_named_by_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a way around it; a name that is no encoder's has the list of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("models.encoder_files._MPNET", "no-such-encoder")
    with pytest.raises(RecipeError, match=r"pip install -e '\.\[mpnet\]'.*encoder: minilm"):
        encoder_folder("mpnet")
    with pytest.raises(RecipeError, match="'bert' is none of minilm, mpnet"):
        encoder_folder("bert")
