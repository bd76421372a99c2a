"""Bundles made to harm: any file may hold anything under its right hash, and gets one sentence; nothing in it runs."""

import json
import os
import pickle
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from tiny_models import make_bundle

from models.bundle import Bundle, BundleError, headline_metrics
from models.manifest import LOADED_FILES, MANIFEST, MAX_JSON_BYTES, REPORT, file_sha256
from monitor.errors import ConfigError
from monitor.scorer import BundleScorer

MAX_GROWTH_KIB = 200 << 10
DEEP = b"[" * 200_000
HUGE = 10**12


class Canary:
    """Unpickling one makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle that works."""
    return make_bundle(tmp_path / "bundle")


def put(bundle: Path, name: str, content: bytes) -> None:
    """Put `content` into a file, with the right hash in the manifest."""
    (bundle / name).write_bytes(content)
    if name in LOADED_FILES:
        change(bundle, lambda tree: tree["files"].update({name: file_sha256(bundle / name)}))


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the manifest's JSON."""
    tree = json.loads((bundle / MANIFEST).read_text())
    edit(tree)
    (bundle / MANIFEST).write_text(json.dumps(tree))


def refusal_of(bundle: Path) -> str:
    """The sentence with which the bundle is refused, in bounded memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError) as caught:
        Bundle.load(bundle, "cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH_KIB
    said = str(caught.value)
    assert str(bundle) in said
    return said


def header(content: bytes, size: int | None = None, tail: bytes = b"\0" * 64) -> bytes:
    """A safetensors file with this header, which claims to have `size` bytes."""
    return struct.pack("<Q", len(content) if size is None else size) + content + tail


def tensor(**fields: object) -> bytes:
    """A header of one tensor."""
    return json.dumps(
        {"embedding.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | fields}
    ).encode()


WEIGHTS = {
    "no header": b"",
    "short": b"\x01",
    "endless header": header(b"{}", 1 << 62),
    "negative header": b"\xff" * 16,
    "large header": header(b"{}", 200_000_000),
    "no JSON": header(b"not JSON"),
    "deep": header(DEEP),
    "a list": header(b"[]"),
    "no tensors": header(b"{}", tail=b""),
    "beyond the end": header(tensor(data_offsets=[0, 1 << 40], shape=[1 << 38])),
    "backwards": header(tensor(data_offsets=[16, 0])),
    "overflow": header(tensor(shape=[1 << 62, 1 << 62])),
    "negative shape": header(tensor(shape=[-2, -2])),
    "unknown type": header(tensor(dtype="X99")),
    "a hole": header(tensor(data_offsets=[16, 32])),
    "not UTF-8": header(b'{"\xff": 1}'),
    "steering name": header(tensor().replace(b"embedding.weight", b"\\u001b[2J"), tail=b"\0" * 16),
}  # fmt: skip


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_hostile_weights_are_refused(bundle: Path, content: bytes) -> None:
    """A header that lies about sizes, types, places or itself is one sentence that names the file."""
    put(bundle, "weights.safetensors", content)
    assert "weights.safetensors" in refusal_of(bundle)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(bundle: Path, value: float) -> None:
    """One NaN would make every score one: the tensor is named."""
    weights = load_file(bundle / "weights.safetensors")
    weights["gru.bias_hh_l0"][3] = value
    put(bundle, "weights.safetensors", save(weights))
    assert "gru.bias_hh_l0 has values that are no finite numbers" in refusal_of(bundle)


@pytest.mark.parametrize("name", ["n_tokens", "embedding", "hidden", "n_classes"])
@pytest.mark.parametrize("value", [HUGE, 10**9, 0, -1, "150", 1.5, None, [1]], ids=str)
def test_a_manifest_cannot_ask_for_memory(bundle: Path, name: str, value: object) -> None:
    """Sizes of the network are those of the tensors that lie there; nothing is made before they were compared."""
    change(bundle, lambda tree: tree["network"].update({name: value}))
    assert "weights.safetensors" in refusal_of(bundle)


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "files is a list": lambda tree: tree.update(files=[1]),
    "files lead elsewhere": lambda tree: tree["files"].update({"/etc/passwd": "0"}),
    "files lead up": lambda tree: tree["files"].update({"..": "0"}),
    "endless tokens": lambda tree: tree.update(max_tokens=float("inf")),
    "no threshold": lambda tree: tree.update(pred_threshold=float("nan")),
    "classes of lists": lambda tree: tree.update(classes=[["negative"], ["positive"]]),
    "classes is a number": lambda tree: tree.update(classes=7),
    "network is a list": lambda tree: tree.update(network=[1, 2]),
    "trained is a number": lambda tree: tree.update(trained=1),
    "name steers": lambda tree: tree.update(name="\x1b]0;owned\x07"),
    "name of lines": lambda tree: tree.update(name="a\nb"),
    "endless name": lambda tree: tree.update(name="x" * 5000),
    "no name": lambda tree: tree.update(name=""),
    "languages is a number": lambda tree: tree.update(languages=1),
}


@pytest.mark.parametrize("edit", MANIFESTS.values(), ids=MANIFESTS)
def test_hostile_manifests_are_refused(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Wrong types, names that lead out of the folder, and texts that steer a terminal."""
    change(bundle, edit)
    assert MANIFEST in refusal_of(bundle)


@pytest.mark.parametrize("name", [MANIFEST, "tokenizer.json", "calibration.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", DEEP, b"[]", b"7", b'{"a":' * 100_000, b"null"], ids=range(7))
def test_files_that_are_no_json_object_are_refused(bundle: Path, name: str, content: bytes) -> None:
    """Empty, not UTF-8, nested without end, or another kind of value."""
    put(bundle, name, content)
    assert name in refusal_of(bundle)


@pytest.mark.parametrize("name", [MANIFEST, "tokenizer.json"])
def test_endless_files_are_not_read(bundle: Path, name: str) -> None:
    """What is far too large for its kind is refused by its size before it is read into memory."""
    with (bundle / name).open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    if name != MANIFEST:
        change(bundle, lambda tree: tree["files"].update({name: file_sha256(bundle / name)}))
    assert "larger than" in refusal_of(bundle)


@pytest.mark.parametrize("name", [MANIFEST, *LOADED_FILES])
def test_pipes_and_devices_are_not_waited_for(bundle: Path, name: str) -> None:
    """What is no plain file is missing."""
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    assert "missing or cannot be read" in refusal_of(bundle)
    (bundle / name).unlink()
    (bundle / name).symlink_to("/dev/zero")
    assert "missing or cannot be read" in refusal_of(bundle)


STRIPS = {"single_word": False, "lstrip": False, "rstrip": False}
TOKENIZERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another model": lambda tree: tree["model"].update(type="BPE", merges=[]),
    "endless padding": lambda tree: tree.update(
        padding={"strategy": {"Fixed": HUGE}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
    ),
    "truncation": lambda tree: tree.update(truncation={"max_length": 1, "stride": 0, "strategy": "LongestFirst"}),
    "an expensive expression": lambda tree: tree.update(
        normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}
    ),
    "a growing replacement": lambda tree: tree.update(
        normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1_000_000}
    ),
    "a broken character map": lambda tree: tree.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    ),
    "another split": lambda tree: tree.update(pre_tokenizer={"type": "Whitespace"}),
    "added tokens": lambda tree: tree.update(
        added_tokens=[{"id": 9**9, "content": "x", "normalized": True, "special": True} | STRIPS]
    ),
    "an id beyond the vectors": lambda tree: tree["model"]["vocab"].update(love=10**6),
    "an id twice": lambda tree: tree["model"]["vocab"].update(love=1),
    "a negative id": lambda tree: tree["model"]["vocab"].update(love=-1),
    "an id that is no number": lambda tree: tree["model"]["vocab"].update(love="7"),
    "a fraction": lambda tree: tree["model"]["vocab"].update(love=1.5),
    "no vocabulary": lambda tree: tree["model"].update(vocab={}),
    "a list": lambda tree: tree["model"].update(vocab=["a"]),
    "no unknown token": lambda tree: tree["model"].update(vocab={"a": 0}),
    "no model": lambda tree: tree.pop("model"),
    "no normalizer": lambda tree: tree.pop("normalizer"),
    "a normalizer of lists": lambda tree: tree.update(normalizer=[[]]),
}  # fmt: skip


@pytest.mark.parametrize("edit", TOKENIZERS.values(), ids=TOKENIZERS)
def test_hostile_tokenizers_are_refused(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Only the parts that our own vocabularies have, whose work is bounded by the text, and ids that have vectors."""
    tree = json.loads((bundle / "tokenizer.json").read_text())
    edit(tree)
    put(bundle, "tokenizer.json", json.dumps(tree).encode())
    assert "tokenizer.json" in refusal_of(bundle)


@pytest.mark.parametrize(
    "content",
    ['{"temperature": 1e-300, "bias": [0,0,0]}', '{"temperature": 1e300, "bias": [0,0,0]}',
     '{"temperature": 1, "bias": [1e300,0,0]}',
     '{"temperature": 1, "bias": [NaN,0,0]}', '{"temperature": 1, "bias": 7}', '{"temperature": [], "bias": [0,0,0]}',
     f'{{"temperature": {"9" * 400}, "bias": [0,0,0]}}'],
    ids=range(7),
)  # fmt: skip
def test_calibrations_without_probabilities_are_refused(bundle: Path, content: str) -> None:
    """What would turn scores into NaN, or all of them into one."""
    put(bundle, "calibration.json", content.encode())
    assert "calibration.json" in refusal_of(bundle)


@pytest.mark.parametrize("name", [MANIFEST, *LOADED_FILES])
def test_a_pickle_is_never_opened(bundle: Path, tmp_path: Path, name: str) -> None:
    """A pickle, bare or as torch saves one, under any name of a bundle's: refused, and what it would do is not done."""
    canary = Canary(tmp_path / "executed")
    torch.save({"embedding.weight": canary}, tmp_path / "torch.pt")
    events: list[str] = []
    watched = ("pickle.", "subprocess", "os.")
    sys.addaudithook(lambda event, _: events.append(event) if event.startswith(watched) else None)
    for content in (pickle.dumps(canary), (tmp_path / "torch.pt").read_bytes()):
        put(bundle, name, content) if name != MANIFEST else (bundle / MANIFEST).write_bytes(content)
        events.clear()
        assert name in refusal_of(bundle)
        assert not {"pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.mkdir"} & set(events)
    assert not canary.path.exists()


@pytest.mark.parametrize(
    "content",
    [b"", DEEP, b"[]", b'{"headline": [1]}', b'{"headline": 7}', b'{"headline": {"a": ' + b"9" * 400 + b"}}",
     b'{"headline": {"a": "x"}}'],
    ids=range(7),
)  # fmt: skip
def test_a_hostile_report_decides_nothing(bundle: Path, content: bytes) -> None:
    """The report is for people: whatever it holds, the bundle loads, without figures."""
    (bundle / REPORT).write_bytes(content)
    assert headline_metrics(bundle) == {}
    assert Bundle.load(bundle, "cpu").metrics == {}


def test_the_daemon_ends_with_the_sentence(bundle: Path, tmp_path: Path) -> None:
    """What models/ refuses is a configuration error (78) for the monitor."""
    put(bundle, "weights.safetensors", WEIGHTS["deep"])
    with pytest.raises(ConfigError, match=r"weights\.safetensors") as caught:
        BundleScorer.load(str(bundle), "cpu", tmp_path)
    assert caught.value.exit_code == 78
