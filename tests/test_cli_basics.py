"""The command line itself: help, speed, exit codes, `init`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_runs import make_cli
from click.testing import CliRunner

from monitor.cli import Program, program
from monitor.errors import SourceUnavailable
from monitor.settings import default_text

#: what makes a start slow; `--help` needs none of it
HEAVY = ("torch", "numpy", "pandas", "sqlalchemy", "kafka", "matplotlib", "pydantic", "slack_sdk", "yaml", "rich")

#: arguments without which a command is a usage error
NEEDED = {
    "model compare": ["a", "b"],
    "model threshold": ["--labels", __file__],
    "model explore": [__file__],
    "model neighbours": ["good"],
    "model explain": ["good"],
    "model export": ["--out", "model.onnx"],
    "model quantize": ["--out", "small"],
    "score": ["-"],
    "alerts show": ["KEY"],
    "alerts drop": ["KEY"],
    "alerts simulate": ["--since", "2026-11-01"],
    "deadletters show": ["1"],
    "deadletters purge": ["--all", "--yes"],
    "posts forget": ["--id", "1", "--yes"],
    "sources resume": ["inbox"],
    "sources seek": ["inbox", "--to-end"],
    "db rebuild-days": ["--yes"],
    "model train": ["social-gru"],
    "model calibrate": ["--labels", __file__],
}


def commands(group: click.Group = program, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command; groups are left out."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name)


NAMES = list(commands())
NEEDING_CONFIG = [words for words in NAMES if words not in {("init",), ("demo",)}]


def in_another_process(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh interpreter and folder."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )


@pytest.mark.parametrize("words", NAMES, ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...]) -> None:
    """Each command has --help with an example that uses it, and the option --config."""
    result = CliRunner().invoke(program, [*words, "--help"])
    assert result.exit_code == 0
    assert "--config" in result.stdout
    assert "Example:" in result.stdout
    assert f"sentiment-monitor {' '.join(words)}" in result.stdout


@pytest.mark.parametrize("group", ["", "alerts", "deadletters", "posts", "sources", "db"])
def test_a_group_says_in_whole_sentences_what_its_commands_do(group: str) -> None:
    """On 80 columns nothing is cut off."""
    shown = CliRunner().invoke(program, [*group.split(), "--help"], terminal_width=80).stdout
    assert "Commands:" in shown
    assert "..." not in shown.partition("Commands:")[2]


def test_every_command_of_the_readme_is_there() -> None:
    """Nobody loses a command that scripts rely on."""
    expected = """
        init run demo check score report status
        alerts-list alerts-show alerts-simulate alerts-test alerts-drop
        deadletters-list deadletters-show deadletters-replay deadletters-purge
        posts-forget sources-list sources-resume sources-seek
        db-upgrade db-current db-check db-rebuild-days
        model-list model-show model-train model-evaluate"""
    assert set(expected.split()) <= {"-".join(words) for words in NAMES}


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    """Asking any command for help imports neither torch nor anything else that takes long."""
    code = f"""
import sys
from click.testing import CliRunner
from monitor.cli import program
for words in {[list(words) for words in NAMES]!r}:
    assert CliRunner().invoke(program, [*words, "--help"]).exit_code == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert in_another_process(code, tmp_path).stdout.strip() == "[]"


def test_only_scoring_loads_torch(tmp_path: Path) -> None:
    """Commands that look at things run without torch, on a fresh folder with a default configuration."""
    looks = [
        *("init", "check", "check --show", "db upgrade", "db current", "db check", "report", "status", "model list"),
        *("sources list", "alerts list", "alerts test", "alerts simulate --since 2026-01-01", "deadletters list"),
    ]
    code = f"""
import json, sys
from click.testing import CliRunner
from monitor.cli import program
codes = {{words: CliRunner().invoke(program, words.split()).exit_code for words in {looks!r}}}
print(json.dumps([codes, "torch" in sys.modules]))
"""
    codes, has_torch = json.loads(in_another_process(code, tmp_path).stdout)
    assert codes == {words: 69 if words == "status" else 0 for words in looks}
    assert has_torch is False


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    """`python -m monitor` is the same program, and its exit code reaches the shell."""
    command = [sys.executable, "-m", "monitor", "report"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 78
    assert result.stderr == (
        "sentiment-monitor: there is no config.yaml; `sentiment-monitor init` writes one, --config PATH names another\n"
    )


@pytest.mark.parametrize("words", NEEDING_CONFIG, ids=" ".join)
def test_a_missing_configuration_names_init(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Every command ends with 78 and says how to make a configuration when there is none."""
    arguments = [*words, *NEEDED.get(" ".join(words), []), "--config", str(tmp_path / "config.yaml")]
    result = CliRunner().invoke(program, arguments, input="")
    assert result.exit_code == 78
    assert "sentiment-monitor init" in result.stderr


def test_a_broken_configuration_is_told_line_by_line(tmp_path: Path) -> None:
    """A wrong key ends any command with 78 and the problem in one line."""
    cli = make_cli(tmp_path, "sqlite:///x.db", alerts={"treshold": 1})
    lines = cli.fails(78, "report").splitlines()
    assert len(lines) == 2
    assert "alerts.treshold = 1: unknown key; did you mean threshold?" in lines[1]


def test_errors_become_exit_codes() -> None:
    """An error of the tree ends with its own code and a sentence; a crash with 1 and where it was, but not its text."""

    @click.command()
    @click.argument("what")
    def fail(what: str) -> None:
        raise {
            "away": SourceUnavailable("the broker is away"),
            "crash": KeyError("a user's text"),
            "stop": KeyboardInterrupt(),
            "stop asking": click.Abort(),
        }[what]

    group = Program("test", commands=[fail], params=[click.Option(["--debug"], is_flag=True)])
    away, crash, *stops = (
        CliRunner().invoke(group, ["fail", what]) for what in ("away", "crash", "stop", "stop asking")
    )
    assert (away.exit_code, away.stderr) == (69, "sentiment-monitor: the broker is away\n")
    assert crash.exit_code == 1
    assert "crashed: KeyError" in crash.stderr
    assert "text" not in crash.stderr
    assert [stop.exit_code for stop in stops] == [130, 130]
    assert isinstance(CliRunner().invoke(group, ["--debug", "fail", "crash"]).exception, KeyError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--wait-s", "3"],
        ["run", "--role", "boss"],
        ["report", "--since", "yesterday"],
        ["report", "--since", "2026-11-02", "--until", "2026-11-01"],
        ["posts", "forget"],
        ["posts", "forget", "--id", "1", "--user", "2"],
        ["deadletters", "purge"],
        ["sources", "seek", "inbox"],
        ["sources", "resume", "nobody"],
        ["score", "nowhere.csv"],
        ["unknown"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(tmp_path: Path, sqlite_url: str, arguments: list[str]) -> None:
    """What was typed wrongly ends with 2, before anything happens."""
    cli = make_cli(tmp_path, sqlite_url)
    assert "Error: " in cli.fails(2, *arguments)


def test_init_writes_the_default_once(tmp_path: Path) -> None:
    """`init` writes the commented defaults and never over a file that is there, unless told to."""
    path = tmp_path / "config.yaml"
    run = CliRunner().invoke
    assert run(program, ["init", "--config", str(path)]).exit_code == 0
    assert path.read_text(encoding="utf-8") == default_text()
    path.write_text("brand: mine\n", encoding="utf-8")
    assert run(program, ["init", "--config", str(path)]).exit_code == 2
    assert path.read_text(encoding="utf-8") == "brand: mine\n"
    assert run(program, ["init", "--config", str(path), "--force"]).exit_code == 0
    assert path.read_text(encoding="utf-8") == default_text()


def test_a_store_that_is_not_there_yet_is_told(tmp_path: Path) -> None:
    """A command that looks into the store makes no empty database when there is none."""
    cli = make_cli(tmp_path, "sqlite:///data/sentiment.db")
    assert "`sentiment-monitor run` or `db upgrade` makes it" in cli.fails(78, "report")
    assert not (tmp_path / "data").exists()
