"""From a recipe and labelled posts to a trained recurrent or convolutional network with its encoder."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.balancing import augmented, balanced_rows
from models.bundle import choose_device
from models.fitting import Checkpoint, Fitted, Labelled, Posts, Start
from models.kinds import load_network
from models.manifest import TOKENIZER, BundleError, Manifest
from models.recurrent import RecurrentClassifier
from models.shapes import CnnShape, RecurrentShape
from models.task_recipe import TaskRecipe
from models.task_trainer import LabelledTokens, TaskTrainer
from models.text_cnn import TextCnn
from models.vectors import start_vectors
from models.word_tokenizer import WordEncoder, WordSettings
from models.word_vocabulary import learn_words, word_level


def fit_network(recipe: TaskRecipe, posts: Posts, start: Start, checkpoint: Checkpoint) -> Fitted:
    """Learn the words of the training posts, then the network: a `fitting.Fitter`."""
    device, _ = choose_device("auto")
    torch.manual_seed(recipe.seed)
    if start.folder is not None and start.manifest is not None:
        encoder, network, numbers = _started(recipe, start.folder, start.manifest)
    else:
        encoder = _encoder(recipe, posts.train.texts)
        network, numbers = _network(recipe, encoder, posts.n_classes, start.vectors)
    network.embedding.weight.requires_grad_(not recipe.network.frozen)
    trainer = TaskTrainer(
        network,
        recipe.optimizer,
        _balanced(recipe, encoder, posts.train),
        LabelledTokens(encoder.encode_tokens(posts.development.texts), posts.development.labels),
        recipe.seed,
        device,
    )
    trainer.run(checkpoint.path, checkpoint.fingerprint)
    return Fitted(encoder, network.cpu().eval(), numbers, encoder.settings, trainer.history)


def _balanced(recipe: TaskRecipe, encoder: WordEncoder, posts: Labelled) -> LabelledTokens:
    rows = balanced_rows(posts.labels, recipe.balancing, recipe.seed)
    if recipe.balancing == "augment":
        texts = augmented(posts.texts, rows, recipe.seed)
        return LabelledTokens(encoder.encode_tokens(texts), posts.labels[rows])
    return LabelledTokens(encoder.encode_tokens(posts.texts).take(rows), posts.labels[rows])


def _encoder(recipe: TaskRecipe, texts: Sequence[str]) -> WordEncoder:
    plan = recipe.vocabulary
    vocabulary = learn_words(
        texts,
        recipe.preparation,
        recipe.settings,
        max_size=plan.max_size,
        min_count=plan.min_count,
        padding=False,  # what is filled up with are zero vectors
        marks=plan.marks,
    )
    return WordEncoder(word_level(vocabulary), recipe.preparation, recipe.length, recipe.settings)


def _network(
    recipe: TaskRecipe, encoder: WordEncoder, n_classes: int, vectors: Path | None
) -> tuple[Any, dict[str, Any]]:
    """The network before the first step, and the manifest's numbers of it."""
    plan = recipe.network
    table = None
    if recipe.vectors != "none":
        names = encoder.tokenizer.get_vocab()
        words = sorted(names, key=names.__getitem__)
        table = start_vectors(words, recipe.vectors, plan.embedding, vectors, recipe.seed)
    width = plan.embedding if table is None else table.shape[1]
    outputs = 1 if recipe.loss == "bce" else 0
    network: RecurrentClassifier | TextCnn
    if recipe.kind == "cnn":
        network = TextCnn(
            CnnShape(encoder.n_tokens, width, plan.filters, n_classes, outputs),
            dropout=plan.dropout,
            token_dropout=plan.token_dropout,
        )
    else:
        network = RecurrentClassifier(
            _recurrent_shape(recipe, encoder.n_tokens, width, n_classes, outputs),
            dropout=plan.dropout,
            token_dropout=plan.token_dropout,
        )
    if table is None:
        nn.init.normal_(network.embedding.weight, std=plan.embedding_std)
    else:
        network.embedding.weight.data.copy_(torch.from_numpy(table))
    return network, {"kind": recipe.kind, **asdict(network.shape)}


def _recurrent_shape(recipe: TaskRecipe, n_tokens: int, width: int, n_classes: int, outputs: int) -> RecurrentShape:
    plan = recipe.network
    return RecurrentShape(
        n_tokens,
        width,
        plan.hidden,
        n_classes,
        cell=plan.cell,
        layers=plan.layers,
        bidirectional=plan.bidirectional,
        pooling=plan.pooling,
        head=plan.head,
        padding=plan.padding,
        length=recipe.length if plan.padding != "none" else 0,
        outputs=outputs,
    )


def _started(recipe: TaskRecipe, folder: Path, manifest: Manifest) -> tuple[WordEncoder, Any, dict[str, Any]]:
    """Encoder and network of a bundle, dropouts as in the recipe. Raises BundleError."""
    loaded = load_network(folder, manifest)
    network = type(loaded)(loaded.shape, dropout=recipe.network.dropout, token_dropout=recipe.network.token_dropout)
    network.load_state_dict(loaded.state_dict())
    try:
        settings = WordSettings(**manifest.encoding)
        encoder = WordEncoder.load(folder / TOKENIZER, manifest.preparation, manifest.max_tokens, settings)
    except (ValueError, TypeError, OSError) as error:
        raise BundleError(f"{folder / TOKENIZER}: {error}") from error
    return encoder, network, dict(manifest.network)
