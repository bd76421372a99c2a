"""From a recipe and labelled posts to a trained linear classifier with its encoder."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models.balancing import augmented, balanced_rows
from models.fitting import Checkpoint, Fitted, Labelled, Posts, Start
from models.linear_training import fit, make_pipeline, network_of, require_scikit_learn
from models.measures import IntArray
from models.recipe import RecipeError
from models.task_recipe import TaskRecipe
from models.word_tokenizer import WordEncoder
from models.word_vocabulary import learn_words, word_level


def check_linear(recipe: TaskRecipe, start: Path | None) -> None:
    """Raise RecipeError where scikit-learn is missing, or something is given to start from."""
    require_scikit_learn()
    if start is not None:
        raise RecipeError(f"{recipe.name} is linear: it starts from nothing, so leave out --init and --vectors")


def fit_linear(recipe: TaskRecipe, posts: Posts, start: Start, checkpoint: Checkpoint) -> Fitted:  # noqa: ARG001  # minutes
    """Learn the terms of the training posts, then their weights: a `fitting.Fitter`. Needs the extra `train`."""
    check_linear(recipe, start.folder or start.vectors)
    texts, labels = _balanced(recipe, posts.train)
    vocabulary = learn_words(
        texts,
        recipe.preparation,
        recipe.settings,
        max_size=recipe.vocabulary.max_size,
        min_count=recipe.vocabulary.min_count,
        padding=False,
    )
    encoder = WordEncoder(word_level(vocabulary), recipe.preparation, recipe.length, recipe.settings)
    pipeline = make_pipeline(recipe.network, encoder, recipe.seed)
    fit(pipeline, texts, labels)
    network = network_of(pipeline, recipe.network, posts.n_classes)
    return Fitted(encoder, network, {"kind": recipe.kind, **asdict(network.shape)}, encoder.settings)


def _balanced(recipe: TaskRecipe, posts: Labelled) -> tuple[Sequence[str], IntArray]:
    rows = balanced_rows(posts.labels, recipe.balancing, recipe.seed)
    if recipe.balancing == "augment":
        return augmented(posts.texts, rows, recipe.seed), posts.labels[rows]
    return [posts.texts[i] for i in rows.tolist()], posts.labels[rows]
