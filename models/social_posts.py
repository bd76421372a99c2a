"""Posts that the shipped bundle learns last, as a task for other networks: how they fare on the same tweets."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from models.composed import grammar_files
from models.corpora import FILES, Corpus, check_set_files, load_test, merge
from models.holdouts import split
from models.protocol import epoch_of
from models.recipe import find_recipe, read_recipe

RECIPE = "social-gru"
TAKES = "of these the posts of sources with all three classes, and generated ones"


def corpora() -> tuple[str, ...]:
    """Files of the sources that its last stage draws from; generated posts are in none."""
    return tuple(FILES[name] for name in read_recipe(find_recipe(RECIPE)).stages[-1].posts if name in FILES)


def files_beside() -> dict[str, Path]:
    """What else decides which posts these are, by name: recipe, check sets, grammar of the generated posts."""
    paths = [find_recipe(RECIPE), *check_set_files().values(), *grammar_files().values()]
    return {path.name: path for path in paths}


def read_social(folder: Path, _split: int) -> tuple[Corpus, Callable[[], Corpus]]:
    """An epoch of the last stage, of the sources with three classes; `2016test` is the test.

    None of them is in the bundle's own development posts. Raises CorpusError.
    """
    plan = read_recipe(find_recipe(RECIPE))
    plan = replace(plan, stages=plan.stages[-1:])
    return merge(epoch_of(plan, split(plan, folder))), lambda: load_test(folder)
