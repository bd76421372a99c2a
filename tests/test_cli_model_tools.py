"""The commands of `model` that compare, look and convert, as they are typed."""

import json
import sys
from pathlib import Path

import pytest
from cli_runs import Cli, make_cli
from test_models_linear import make_linear_bundle
from tiny_models import labelled_rows, make_bundle, write_labelled

from models.linear_plan import LinearPlan
from monitor.commands import model_compare


@pytest.fixture
def cli(tmp_path: Path, sqlite_url: str) -> Cli:
    """Commands whose configured bundle is a small one, with labelled posts beside it."""
    make_bundle(tmp_path / "tiny")
    write_labelled(tmp_path / "labelled.csv", labelled_rows(60))
    return make_cli(tmp_path, sqlite_url, scoring={"bundle": "tiny"})


@pytest.fixture
def labelled(cli: Cli) -> str:
    """The path of the labelled posts."""
    return str(cli.config.parent / "labelled.csv")


def test_a_bundle_equals_itself(cli: Cli, labelled: str) -> None:
    """No difference, p of 1."""
    found = json.loads(cli.ok("model", "compare", "tiny", "tiny", "--data", labelled, "--json"))
    assert (found["posts"], found["mcnemar_p"], found["accuracy"]["difference"]) == (60, 1.0, 0.0)
    assert "McNemar p = 1" in cli.ok("model", "compare", "tiny", "tiny", "--data", labelled)


def test_threshold_says_how_to_set_it(cli: Cli, labelled: str) -> None:
    """Without --out it is told how; with it the copy is what `model show` describes."""
    assert "add --out FOLDER" in cli.ok("model", "threshold", "--labels", labelled)
    out = cli.config.parent / "tuned"
    points = cli.ok("model", "threshold", "--labels", labelled, "--out", str(out), "--json").splitlines()
    (best,) = [point["threshold"] for point in map(json.loads, points) if point["best"]]
    assert json.loads(cli.ok("model", "show", "tuned", "--json"))["pred_threshold"] == best


def test_posts_are_quoted_on_a_terminal_only(cli: Cli, labelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts always, examples only for the one who asked."""
    arguments = ("model", "errors", "--data", labelled, "--confident", "0")
    assert " acme " not in cli.ok(*arguments)
    monkeypatch.setattr(model_compare, "is_terminal", lambda: True)
    assert " acme " in cli.ok(*arguments)


def test_no_mistake_is_told_without_numbers(cli: Cli, labelled: str) -> None:
    """Shares of nothing are empty cells, and null in JSON, which has no NaN."""
    arguments = ("model", "errors", "--data", labelled, "--confident", "1")
    result = cli.run(*arguments)
    assert result.exit_code == 0
    assert "No mistake has a probability of 1 or more." in result.output
    assert "nan" not in result.output
    first = json.loads(cli.ok(*arguments, "--json").splitlines()[0], parse_constant=pytest.fail)
    assert (first["group"], first["mistakes"], first["share"]) == ("all", 0, None)


def test_explore_draws(cli: Cli, labelled: str) -> None:
    """Figures on the terminal, a picture where it is asked for."""
    plot = cli.config.parent / "zipf.png"
    assert "share of positive" in cli.ok("model", "explore", labelled, "--plot", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_words_are_looked_up_and_explained(cli: Cli) -> None:
    """Neighbours of a word; contributions that add up to the log-odds."""
    assert len(cli.ok("model", "neighbours", "love", "-n", "3", "--json").splitlines()) == 3
    found = json.loads(cli.ok("model", "explain", "I love it", "--json"))
    assert found["base"] + sum(word["adds"] for word in found["words"]) == pytest.approx(found["log_odds"], abs=0.01)


def test_words_of_a_linear_bundle(cli: Cli) -> None:
    """The most positive and the most negative ones; each word of a text adds its weight, exactly."""
    make_linear_bundle(cli.config.parent / "words", LinearPlan())
    assert "love" in cli.ok("model", "words", "words")
    found = json.loads(cli.ok("model", "words", "words", "-n", "4", "--json"))
    assert [len(found[side]) for side in ("positive", "negative")] == [4, 4]
    assert min(found["positive"].values()) > 0 > max(found["negative"].values())
    told = json.loads(cli.ok("model", "explain", "I love acme", "words", "--json"))
    assert told["base"] + sum(word["adds"] for word in told["words"]) == pytest.approx(told["log_odds"], abs=1e-9)
    assert "of the kind linear" in cli.fails(78, "model", "words", "tiny")
    assert "has no word embeddings" in cli.fails(78, "model", "neighbours", "love", "words")


def test_a_bundle_in_another_form(cli: Cli, labelled: str) -> None:
    """ONNX with its tokenizer; an int8 bundle that `show` finds in order."""
    folder = cli.config.parent
    assert "equal torch's" in cli.ok("model", "export", "--out", str(folder / "exported" / "model.onnx"))
    assert "60 posts" in cli.ok("model", "quantize", "--out", str(folder / "small"), "--data", labelled)
    assert json.loads(cli.ok("model", "show", "small", "--json"))["name"] == "small"


def test_export_names_the_missing_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnx nothing is written and the extra is named."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = cli.config.parent / "model.onnx"
    assert "[export]" in cli.fails(78, "model", "export", "--out", str(out))
    assert not out.exists()


@pytest.mark.parametrize(
    ("code", "arguments", "expected"),
    [
        (2, ["explain", "  "], "the text is empty"),
        (2, ["explain", "\u200b\x00\n"], "the text is empty"),
        (78, ["explain", "good", "nowhere"], "no bundle at"),
        (78, ["neighbours", ""], "the word is empty"),
        (78, ["compare", "tiny", "nowhere"], "no bundle at"),
    ],
    ids=["empty text", "invisible text", "explain", "empty word", "compare"],
)
def test_what_is_unclear_is_told(cli: Cli, code: int, arguments: list[str], expected: str) -> None:
    """One sentence and the right exit code."""
    assert expected in cli.fails(code, "model", *arguments)
