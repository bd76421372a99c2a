"""A transformer that learns the corpora's labels, to teach them to a network that is fast enough to serve.

`sentiment-monitor model train social-teacher`, or the larger `social-teacher-mpnet`.
Knowledge distillation, Hinton et al. 2015, arXiv:1503.02531.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from models.bundle import choose_device
from models.calibration import Calibration
from models.corpora import CLASSES
from models.encoder_files import encoder_folder
from models.holdouts import Split
from models.manifest import CALIBRATION, TOKENIZER, WEIGHTS, BundleError, read_manifest
from models.measures import FloatArray
from models.network_weights import read_weights
from models.precision import half_precision
from models.recipe import SENTENCE_ENCODER, Recipe, RecipeError
from models.sentence_encoder import EncoderShape, SentenceClassifier, pretrained, teacher_vocabulary
from models.tokenizer import TextEncoder
from models.trainer import logits_of, states_and_logits_of
from models.vocabulary import wordpiece

LOG = logging.getLogger(__name__)
BATCH_POSTS = 256


def new_teacher(plan: Recipe) -> tuple[TextEncoder, SentenceClassifier]:
    """Encoder and network before the first step. Raises RecipeError without the pretrained one, or for longer posts."""
    folder = encoder_folder(plan.network.encoder)
    torch.manual_seed(plan.seed)  # the output for the classes is new
    vocabulary = teacher_vocabulary(folder)
    network = pretrained(folder, vocabulary, len(CLASSES), plan.network.dropout)
    longest = network.shape.positions - network.shape.first_place - 2  # a mark before and one behind
    if plan.max_tokens > longest:
        raise RecipeError(f"{plan.name}: max_tokens {plan.max_tokens} is more than the encoder's {longest}")
    return TextEncoder(wordpiece(vocabulary), plan.preparation, plan.max_tokens), network


def held_out_sha256(posts: Split) -> str:
    """What a teacher and its pupil must agree on: the posts that neither may have seen."""
    parts = [posts.development, posts.calibration, posts.measuring, *posts.left_out.values()]
    keys = sorted({key for part in parts for key in part.keys})
    return hashlib.sha256("\n".join(keys).encode("utf-8", "replace")).hexdigest()


class Teacher:
    """A trained teacher. Raises BundleError where `folder` holds none, or one that is altered."""

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        numbers = dict(manifest.network)
        if numbers.pop("kind", "gru") != SENTENCE_ENCODER:
            raise BundleError(f"{folder} is no teacher: train one with `model train social-teacher`")
        self.sha256 = manifest.sha256
        self.recipe: dict[str, Any] = manifest.trained.get("recipe", {})
        self.scale = str(manifest.trained.get("scale", "full"))
        self.data_sha256: dict[str, str] = manifest.trained.get("data_sha256", {})
        self.history = list(manifest.trained.get("history", []))
        self.held_out_sha256 = str(manifest.trained.get("held_out_sha256"))
        self._encoder = TextEncoder.load(folder / TOKENIZER, manifest.preparation, manifest.max_tokens)
        try:
            self._network = SentenceClassifier(EncoderShape(**numbers))
            self._network.load_state_dict(read_weights(folder))
        except (SafetensorError, RuntimeError, TypeError, ValueError, OSError) as error:
            raise BundleError(f"{folder / WEIGHTS} does not fit the manifest: {error}") from error
        self._calibration = Calibration.load(folder / CALIBRATION, len(manifest.classes))
        self._device, _ = choose_device("auto")
        self._network.to(self._device)

    def told(self) -> dict[str, Any]:
        """What a pupil's manifest says of it; the macro recall is that of the kept weights on the development posts."""
        last = self.history[-1].get("stage") if self.history else None
        best = max((float(epoch["macro_recall"]) for epoch in self.history if epoch.get("stage") == last), default=0.0)
        encoder = self.recipe.get("network", {}).get("encoder", "minilm")
        traced = {"seed": self.recipe.get("seed"), "scale": self.scale, "data_sha256": self.data_sha256}
        named = {"sha256": self.sha256, "recipe": self.recipe.get("name"), "encoder": encoder}
        return named | traced | {"macro_recall": best}

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Calibrated probabilities (n, C) of texts, in their order; in half precision where that is the faster one."""
        with half_precision(self._device):
            logits = logits_of(self._network, self._encoder.encode(texts), BATCH_POSTS)
        return self._calibration.apply(logits)

    @property
    def width(self) -> int:
        """Of its states."""
        return self._network.shape.width

    def say(self, texts: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """(calibrated probabilities (n, C), states (n, D) that its output makes them of) of texts, in their order."""
        with half_precision(self._device):
            states, logits = states_and_logits_of(self._network, self._encoder.encode(texts), BATCH_POSTS)
        return self._calibration.apply(logits), states
