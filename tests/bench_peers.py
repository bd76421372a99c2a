"""Scoring beside peers: the seed's loop, VADER, a transformer of DistilBERT's size, ONNX Runtime on the same GRU."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from bench_measure import Figure, compare, pace
from bench_seed import SeedScorer
from torch import Tensor, nn

from monitor.scorer import BundleScorer

SECTION = "Scoring, posts/s"
CPU_SECTION = "Scoring: CPU seconds per 1,000 posts"
SEED_TIMES = 40.0  #: at least, with bf16 products in the processor
SEED_TIMES_WITHOUT_BF16 = 25.0
HIDDEN = 128
ALONE_MS = 3.0  #: one post on a CPU, at most


def peers(found: Sequence[str], scorer: BundleScorer, n_pairs: int) -> Iterator[Figure]:
    """The bundle against each peer, pair by pair, every text scored once and never twice the same within a call."""
    device, cursor = scorer.bundle.device, _Cursor(found)

    def bundle() -> int:
        return len(scorer.score_texts(cursor.take(8_192)))

    wanted = SEED_TIMES if has_bf16() or device != "cpu" else SEED_TIMES_WITHOUT_BF16
    costs = []
    for name, n, score in _contenders(found, scorer, device):
        result = compare(bundle, lambda n=n, score=score: score(cursor.take(n)), n_pairs)  # type: ignore[misc]
        target = f"at least {wanted:.0f} times the seed's loop" if name.startswith("seed") else None
        ok = result.ratio >= wanted if target else None
        yield Figure(SECTION, name, result.second.posts_per_s, "posts/s")
        ours = f"{scorer.bundle.name} beside it"
        yield Figure(SECTION, ours, result.first.posts_per_s, "posts/s", result.ratio, name, target, ok)
        costs.append(Figure(CPU_SECTION, name, result.second.cpu_s, "s", result.cpu_ratio, scorer.bundle.name))
    yield from costs
    yield Figure(CPU_SECTION, scorer.bundle.name, pace(bundle).cpu_s, "s")
    yield _retweets(cursor, scorer, n_pairs)
    yield _alone(cursor.take(300), scorer)


def _retweets(cursor: "_Cursor", scorer: BundleScorer, n_pairs: int) -> Figure:
    """Posts of which every second says what one before it said, beside as many that are all distinct."""

    def half() -> int:
        return len(scorer.score_texts(cursor.take(4_096) * 2))

    result = compare(half, lambda: len(scorer.score_texts(cursor.take(8_192))), n_pairs)
    section = "Scoring where half of the posts are retweets"
    return Figure(section, scorer.bundle.name, result.first.posts_per_s, "posts/s", result.ratio, "all distinct")


def _alone(texts: Sequence[str], scorer: BundleScorer) -> Figure:
    """The median of posts scored one at a time."""
    times_ms = []
    for text in texts:
        began = time.perf_counter()
        scorer.score_texts([text])
        times_ms.append((time.perf_counter() - began) * 1_000)
    ms = statistics.median(times_ms)
    target, ok = (f"under {ALONE_MS:.0f} ms", ms < ALONE_MS) if scorer.bundle.device == "cpu" else (None, None)
    return Figure("One post scored alone", "median", ms, "ms", target=target, ok=ok)


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a line of the kernel's, not a file of ours
            return any(flag in file.read() for flag in ("avx512_bf16", "amx_bf16"))
    except OSError:
        return False


class _Cursor:
    """Texts one after the other, so that no cache of a peer sees one twice before all were used."""

    def __init__(self, found: Sequence[str]) -> None:
        self._found = found
        self._at = 0

    def take(self, n: int) -> list[str]:
        if self._at + n > len(self._found):
            self._at = 0
        self._at += n
        return list(self._found[self._at - n : self._at])


Contender = tuple[str, int, Callable[[list[str]], int]]


def _contenders(found: Sequence[str], scorer: BundleScorer, device: str) -> Iterator[Contender]:
    seed = SeedScorer(found[:20_000], device)
    yield "seed's loop", 1_024, lambda texts: len(seed.score(texts))
    if importlib.util.find_spec("vaderSentiment"):
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        vader = SentimentIntensityAnalyzer()
        yield "VADER", 2_048, lambda texts: len([vader.polarity_scores(text) for text in texts])
    yield "transformer 6x768", 128, _transformer(scorer, device)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx") and device == "cpu":
        yield "ONNX Runtime, same GRU", 4_096, _onnx(scorer)


def _transformer(scorer: BundleScorer, device: str) -> Callable[[list[str]], int]:
    """DistilBERT's shape with random weights: 6 layers of 768, 12 heads, 3072 within; 32 alike long at a time."""
    layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).to(device).eval()
    embedding = nn.Embedding(30_522, 768).to(device)

    @torch.inference_mode()
    def score(texts: list[str]) -> int:
        ids = sorted(_ids(scorer, texts), key=len)
        for start in range(0, len(ids), 32):
            padded, lengths = _padded(ids[start : start + 32])
            hidden = torch.arange(padded.shape[1]) >= lengths[:, None]
            encoder(embedding((padded % 30_522).to(device)), src_key_padding_mask=hidden.to(device))[:, 0].cpu()
        return len(texts)

    return score


def _onnx(scorer: BundleScorer) -> Callable[[list[str]], int]:
    """Embedding 128, the bidirectional GRU and a linear layer over its last states, on length-sorted batches."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        _gru_graph(scorer.bundle.encoder.n_tokens), providers=["CPUExecutionProvider"]
    )

    def score(texts: list[str]) -> int:
        ids = sorted(_ids(scorer, texts), key=len)
        for start in range(0, len(ids), 256):
            padded, lengths = _padded(ids[start : start + 256])
            session.run(None, {"ids": padded.T.contiguous().numpy(), "lengths": lengths.to(torch.int32).numpy()})
        return len(texts)

    return score


def _ids(scorer: BundleScorer, texts: list[str]) -> list[Any]:
    return list(scorer.bundle.encoder.encode(texts))


def _padded(ids: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """(B, T) int64, zeros behind, and the lengths (B,)."""
    lengths = torch.tensor([len(post) for post in ids])
    padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.int64)
    for row, post in zip(padded, ids, strict=True):
        row[: len(post)] = torch.as_tensor(np.asarray(post, np.int64))
    return padded, lengths


def _gru_graph(n_tokens: int) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    random = np.random.default_rng(1)
    shapes = {
        "table": (n_tokens, HIDDEN),
        "w": (2, 3 * HIDDEN, HIDDEN),
        "r": (2, 3 * HIDDEN, HIDDEN),
        "b": (2, 6 * HIDDEN),
    }
    weights = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["output"] = random.normal(0, 0.1, (2 * HIDDEN, 3)).astype(np.float32)
    options: dict[str, Any] = {"hidden_size": HIDDEN, "direction": "bidirectional", "linear_before_reset": 1}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("GRU", ["embedded", "w", "r", "b", "lengths"], ["", "last"], **options),
        helper.make_node("Split", ["last"], ["forward", "backward"], axis=0, num_outputs=2),
        helper.make_node("Concat", ["forward", "backward"], ["both"], axis=2),
        helper.make_node("MatMul", ["both", "output"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["time", "batch"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "batch", 3])]
    initial = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "gru", inputs, outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
