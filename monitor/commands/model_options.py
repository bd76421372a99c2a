"""What the commands of `model` share: how bundles and labelled posts are named, and how their errors are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from monitor.config import Config

data_option = click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of the corpora, or a CSV with columns text and label.  [default: SENTIMENT_DATA]",
)


class PostsOrHub(click.Path):
    """A path that is there, or `hub:` and the name of a data set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if str(value).startswith("hub:") else super().convert(value, param, ctx)


hub_data_option = click.option(
    "--data",
    type=PostsOrHub(exists=True, path_type=Path),
    help="Folder of the corpora, a CSV with columns text and label, or hub:NAME, a data set of Hugging Face (imdb,"
    " sentiment140) for the recipes of one task.  [default: SENTIMENT_DATA]",
)
bundle_argument = click.argument("bundle", required=False)


def find_bundle(bundle: str, config: "Config") -> Path:
    """A path that is there as typed, else one relative to the configuration, else a shipped bundle's name."""
    from models import bundle as bundles

    typed = Path(bundle)
    return typed if (typed / "manifest.json").is_file() else bundles.find_bundle(bundle, config.base_dir)


@contextmanager
def told_as_config_errors() -> Iterator[None]:
    """What is wrong with a bundle, a recipe or the training posts is told in one sentence, not as a crash."""
    from monitor.errors import ConfigError

    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "models":
            raise
        raise ConfigError(str(error)) from error
