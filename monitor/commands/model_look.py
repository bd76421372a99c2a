"""`model explore`, `neighbours`, `words` and `explain`: what posts are like, and what a bundle makes of words."""

from itertools import zip_longest
from pathlib import Path

import click

from monitor.commands.model_options import bundle_argument, find_bundle, told_as_config_errors
from monitor.commands.options import config_option, example, json_option, load_config
from monitor.commands.tables import print_fields, print_object, print_rows
from monitor.quotes import clean


@click.command(epilog=example("model explore labelled.csv", "model explore imdb --plot zipf.png"))
@config_option
@click.argument("data")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw words by frequency (Zipf) as a PNG."
)
@json_option
def explore(config_path: Path, data: str, plot: Path | None, *, as_json: bool) -> None:
    """Look at posts: class shares, lengths in words, and how many words make 80% of the text.

    DATA is a CSV with the column text (and label), the name of a recipe's task (imdb, sentiment140, tweets3, semeval,
    uci), whose test posts are left out, or hub:NAME, a data set of Hugging Face.
    """
    load_config(config_path)
    with told_as_config_errors():
        from models import explore as exploring
        from models.places import require_writable

        if plot is not None:
            require_writable(plot.parent)
            plot.parent.mkdir(exist_ok=True)
        found = exploring.explore(data)
        if plot is not None:
            exploring.draw_zipf(found, plot)
    fields = {
        "posts": found.posts,
        **{f"share of {name}": share for name, share in found.shares.items()},
        "words a post, median": found.median,
        "words a post, 99th percentile": found.p99,
        "different words": len(found.counts),
        "words that make 80%": found.n_covering,
    }
    (print_object if as_json else print_fields)(fields)


@click.command(epilog=example("model neighbours awful", "model neighbours awful my-bundle -n 20"))
@config_option
@click.argument("word")
@bundle_argument
@click.option("-n", "n_words", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many.")
@json_option
def neighbours(config_path: Path, word: str, bundle: str | None, n_words: int, *, as_json: bool) -> None:
    """List the words whose embeddings are nearest to a word's, by cosine."""
    config = load_config(config_path)
    with told_as_config_errors():
        from models import neighbours as nearest

        path = find_bundle(bundle or config.scoring.bundle, config)
        n_pieces, found = nearest.neighbours(path, word, n_words)
    if n_pieces > 1 and not as_json:
        click.echo(f"the bundle reads it in {n_pieces} pieces; their mean is compared", err=True)
    print_rows(("word", "cosine"), [{"word": name, "cosine": cosine} for name, cosine in found], as_json=as_json)


@click.command(epilog=example("model words my-linear-bundle", "model words my-linear-bundle -n 50 --json"))
@config_option
@bundle_argument
@click.option("-n", "n_words", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many of each.")
@json_option
def words(config_path: Path, bundle: str | None, n_words: int, *, as_json: bool) -> None:
    """List the most positive and the most negative words of a linear bundle.

    Each adds so much to the log-odds of pos_prob of a post that holds nothing else.
    """
    config = load_config(config_path)
    with told_as_config_errors():
        from models import linear_words

        positive, negative = linear_words.weightiest(find_bundle(bundle or config.scoring.bundle, config), n_words)
    if as_json:
        print_object({"positive": dict(positive), "negative": dict(negative)})
        return
    rows = [
        {"positive": good, "adds": up, "negative": bad, "takes": down}
        for (good, up), (bad, down) in zip_longest(positive, negative, fillvalue=("", None))
    ]
    print_rows(("positive", "adds", "negative", "takes"), rows)


@click.command(epilog=example('model explain "not what I paid for, but the staff is lovely"'))
@config_option
@click.argument("text")
@bundle_argument
@json_option
def explain(config_path: Path, text: str, bundle: str | None, *, as_json: bool) -> None:
    """Say what each word adds to the log-odds of pos_prob; with the base they add up to it.

    By integrated gradients, within 0.01; of a linear bundle exactly. In a text of the same few words many times the
    network can be too rough for that: what the gradients miss is shared by their sizes, and `jumps` is how much it was.
    A bundle that pools by attention shows each word's attention weight too: where it looks, not which way it pushes.
    """
    if not clean(text):  # blanks, controls, zero width: nothing that anybody can read
        raise click.UsageError("the text is empty: there is nothing to explain")
    config = load_config(config_path)
    with told_as_config_errors():
        from models import explain as explaining

        found = explaining.explain(find_bundle(bundle or config.scoring.bundle, config), text)
    totals = {"base": found.base, "log_odds": found.log_odds, "pos_prob": found.pos_prob}
    rows = [{"word": word, "adds": value} for word, value in found.words]
    columns = ("word", "adds", "attention") if found.attention else ("word", "adds")
    for row, (_, weight) in zip(rows, found.attention, strict=False):
        row["attention"] = weight
    if found.jumps or as_json:
        totals["jumps"] = found.jumps
    if as_json:
        print_object(totals | {"words": rows, "steps": found.steps})
        return
    print_rows(columns, rows)
    print_fields(totals)
