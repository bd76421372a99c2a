"""The manifest of a bundle: what it is, and the SHA-256 of each file it is loaded from. No torch here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer.json"
CALIBRATION = "calibration.json"
REPORT = "report.json"
CARD = "README.md"
LOADED_FILES = (WEIGHTS, TOKENIZER, CALIBRATION)
MAX_JSON_BYTES = 64 << 20  #: of one JSON file; the largest here has 1 MB
MAX_NAME_CHARS = 100
CLASSES_THREE = ("negative", "neutral", "positive")
CLASSES_TWO = ("negative", "positive")


class BundleError(Exception):
    """A bundle that is missing, altered, or does not fit together; the message names the file."""


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says. `network` has the numbers of its shape; `files` maps a name to a SHA-256 in hex.

    `encoding` has the settings of a word-level encoder: what it removes, which end of a long text it keeps; empty for
    subwords. `trained` says how the bundle came about (recipe, seed, hashes of the data); nothing is loaded from it.
    """

    name: str
    classes: tuple[str, ...]
    languages: tuple[str, ...]
    preparation: str
    max_tokens: int
    network: Mapping[str, Any]
    files: Mapping[str, str]
    pred_threshold: float = 0.5
    trained: Mapping[str, Any] = field(default_factory=dict)
    encoding: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""  # of manifest.json itself; filled by reading


def canonical_json(tree: object) -> str:
    """JSON with sorted keys and a final newline: equal content gives equal bytes."""
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The JSON of a file. Raises OSError for what is no plain file, ValueError for what is no JSON of decent size."""
    if not path.is_file():
        raise FileNotFoundError(path)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"it is larger than {MAX_JSON_BYTES} bytes")
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` with the hashes of the files that lie in `folder` now."""
    tree = asdict(manifest) | {"format": FORMAT, "files": {name: file_sha256(folder / name) for name in LOADED_FILES}}
    del tree["sha256"]
    if not tree["encoding"]:
        del tree["encoding"]
    (folder / MANIFEST).write_text(canonical_json(tree), encoding="utf-8")


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle `path`, once every file it names is there and unaltered. Raises BundleError."""
    manifest = _parse(path / MANIFEST)
    for name, expected in manifest.files.items():
        _verify(path / name, expected)
    return manifest


def _verify(path: Path, expected: str) -> None:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError(path)
        found = file_sha256(path)
    except OSError as error:
        raise BundleError(f"{path} is missing or cannot be read") from error
    if found != expected:
        raise BundleError(
            f"{path} is altered or truncated: SHA-256 {found[:12]}..., the manifest says {expected[:12]}..."
        )


def _parse(path: Path) -> Manifest:
    try:
        tree = read_json(path)
    except OSError as error:
        raise BundleError(f"{path} is missing or cannot be read") from error
    except ValueError as error:
        raise BundleError(f"{path} is no JSON: {error}") from error
    try:
        return _check(tree, file_sha256(path))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"{path} is no manifest of format {FORMAT}: {type(error).__name__} {error}") from error


def _check(tree: Mapping[str, Any], sha256: str) -> Manifest:
    if tree["format"] != FORMAT:
        raise ValueError(f"format is {tree['format']!r}")
    classes = tuple(tree["classes"])
    if classes not in {CLASSES_TWO, CLASSES_THREE}:
        raise ValueError(f"classes {classes}")
    files = {str(name): str(digest) for name, digest in tree["files"].items()}
    unsafe = [name for name in files if Path(name).name != name or name == ".."]
    if unsafe or set(LOADED_FILES) - set(files):
        raise ValueError(f"files must name {', '.join(LOADED_FILES)}, in the bundle's own folder")
    threshold, max_tokens = float(tree["pred_threshold"]), int(tree["max_tokens"])
    if not 0.0 <= threshold <= 1.0 or max_tokens < 1:
        raise ValueError(f"pred_threshold {threshold}, max_tokens {max_tokens}")
    name = str(tree["name"])
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise ValueError(f"the name must have 1 to {MAX_NAME_CHARS} characters that can be printed")
    return Manifest(
        name=name,
        classes=classes,
        languages=tuple(map(str, tree["languages"])),
        preparation=str(tree["preparation"]),
        max_tokens=max_tokens,
        network=dict(tree["network"]),
        files=files,
        pred_threshold=threshold,
        trained=dict(tree["trained"]),
        encoding=dict(tree.get("encoding", {})),
        sha256=sha256,
    )
