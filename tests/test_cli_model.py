"""`model`: bundles are listed and shown with what is wrong with them; unusable recipes are told in a sentence."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Cli, make_cli
from tiny_models import RECIPE, labelled_rows, make_bundle, write_labelled

from models.corpora import CorpusError
from models.left_out import digest_of
from models.protocol import without_source
from models.recipe import find_recipe, list_recipes, read_recipe
from models.tasks import TASKS


@pytest.fixture
def cli(tmp_path: Path, sqlite_url: str) -> Cli:
    """Commands whose configured bundle is a small one beside the configuration."""
    make_bundle(tmp_path / "tiny")
    return make_cli(tmp_path, sqlite_url, scoring={"bundle": "tiny"})


def test_list_marks_the_configured_bundle(cli: Cli) -> None:
    """The configured bundle is listed beside the shipped ones, marked, and found in order."""
    listed = {line["name"]: line for line in map(json.loads, cli.ok("model", "list", "--json").splitlines())}
    assert (listed["tiny"]["used"], listed["tiny"]["classes"], listed["tiny"]["state"]) == ("*", 3, "in order")
    assert [name for name, line in listed.items() if line["used"]] == ["tiny"]


def test_list_names_what_is_wrong(cli: Cli, tmp_path: Path) -> None:
    """A bundle that lacks a file stays in the list, with the file's name."""
    (tmp_path / "tiny" / "weights.safetensors").unlink()
    assert "weights.safetensors is missing" in cli.ok("model", "list")
    assert "weights.safetensors is missing" in cli.fails(78, "model", "show")


def test_show_describes_a_bundle(cli: Cli, tmp_path: Path) -> None:
    """The configured bundle, or one named by its path, is described for people and as JSON."""
    assert "classes         negative, neutral, positive" in cli.ok("model", "show")
    described = json.loads(cli.ok("model", "show", str(tmp_path / "tiny"), "--json"))
    assert (described["name"], described["languages"]) == ("tiny", ["en"])
    (tmp_path / "tiny" / "README.md").write_text("# A tiny bundle\n", encoding="utf-8")
    assert cli.ok("model", "show", "--card") == "# A tiny bundle\n\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "nowhere"], "no bundle at"),
        (["evaluate", "nowhere"], "no bundle at"),
        (["train", "nowhere"], "nowhere"),
    ],
    ids=["show", "evaluate", "train"],
)
def test_what_is_not_there_is_78(cli: Cli, arguments: list[str], expected: str) -> None:
    """Unknown bundles and recipes are a matter of configuration, told in one sentence that names what there is."""
    stderr = cli.fails(78, "model", *arguments)
    assert stderr.startswith("sentiment-monitor: ")
    assert expected in stderr


def test_recipes_are_listed(cli: Cli) -> None:
    """Each that `model train` knows by name, with what it trains on."""
    rows = [json.loads(line) for line in cli.ok("model", "list", "--recipes", "--json").splitlines()]
    assert [row["recipe"] for row in rows] == list_recipes()
    assert {row["trains on"] for row in rows} == {*TASKS} - {"social"} | {"several corpora"}


@dataclass
class Training:
    """In place of one of hours without a source."""

    source: str
    teacher: str
    asked: list[tuple[str, str]]

    def told(self) -> dict[str, Any]:
        digest = digest_of(without_source(read_recipe(find_recipe("social-gru")), [self.source]))
        told = {"recipe_sha256": digest, "left_out": [self.source], "scale": "small"}
        return told | {"teacher": {"recipe": self.teacher}}

    def measure(self) -> dict[str, Any]:
        self.asked.append((self.source, self.teacher))
        if self.source == "goemotions":
            raise CorpusError("it was taken away meanwhile")
        figures = {"posts": 9, "two_class_accuracy": 0.5, "interval": [0.4, 0.6]}
        told = self.told()
        return told | figures | {"teacher": told["teacher"] | figures}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(source, teacher) of each training; the bundle `tiny` has figures of two sources, of an earlier recipe."""
    manifest = tmp_path / "tiny" / "manifest.json"
    teachers = [{"sha256": "1", "recipe": "social-teacher-mpnet"}, {"sha256": "2", "recipe": "social-teacher"}]
    told = {"trained": {"recipe": asdict(read_recipe(find_recipe("social-gru"))), "teachers": teachers}}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | told))
    earlier = {"posts": 1, "two_class_accuracy": 0.25, "interval": [0.2, 0.3]}
    (tmp_path / "tiny" / "report.json").write_text(
        json.dumps({"sets": {}, "headline": {}, "headline_set": "", "hold_out": {"sanders": earlier, "uci": earlier}})
    )
    found: list[tuple[str, str]] = []

    def prepare(sources: Sequence[str], *, teacher: str, **_: object) -> list[Training]:
        return [Training(source, teacher, found) for source in sources]

    monkeypatch.setattr("models.hold_out_source.prepare", prepare)
    return found


def test_a_hold_out_asks_for_a_teacher_as_the_bundle_had(
    cli: Cli, tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    """Of every source; new figures stand beside, or instead of, those of the bundle's report, of another recipe."""
    report = json.loads(cli.ok("model", "evaluate", "--hold-out", "uci", "--hold-out", "semeval", "--json"))
    assert asked == [("uci", "social-teacher-mpnet"), ("semeval", "social-teacher-mpnet")]
    assert {source: "other_recipe" in one for source, one in report["hold_out"].items()} == {
        "sanders": True,
        "semeval": False,
        "uci": False,
    }
    for recipe, mark in (("social-teacher", ""), ("of-my-own", "*")):
        result = cli.run("model", "evaluate", "--hold-out", "uci", "--teacher-recipe", recipe)
        assert (result.exit_code, asked[-1]) == (0, ("uci", recipe))
        assert f"| uci | small{mark} | 9 | 0.500 | 0.400 to 0.600 |  |  | {recipe} | 0.500 |" in result.stdout
        assert ("the figures of uci will be marked *: tiny has" in result.stderr) == bool(mark)
    assert "--teacher-recipe goes with --hold-out" in cli.fails(2, "model", "evaluate", "--teacher-recipe", "x")
    (tmp_path / "tiny" / "report.json").unlink()
    assert "evaluate the bundle first" in cli.fails(78, "model", "evaluate", "--hold-out", "uci")
    assert len(asked) == 4


def test_a_misspelt_source_is_told_before_hours_of_training(cli: Cli, tmp_path: Path) -> None:
    """Also where it is the second."""
    (tmp_path / "tiny" / "report.json").write_text(json.dumps({"sets": {}, "headline": {}, "headline_set": ""}))
    assert "no corpus is called uic" in cli.fails(78, "model", "evaluate", "--hold-out", "uci", "--hold-out", "uic")


def test_figures_of_sources_left_out_are_saved_one_by_one(
    cli: Cli, tmp_path: Path, asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure of the second source leaves those of the first; without --save nothing changes."""
    path = tmp_path / "tiny" / "report.json"
    monkeypatch.setattr("models.evaluate.save_report", lambda _, report: path.write_text(json.dumps(report)))
    before = path.read_text()
    cli.ok("model", "evaluate", "--hold-out", "uci")
    assert path.read_text() == before
    sources = ["--hold-out", "uci", "--hold-out", "goemotions", "--hold-out", "semeval"]
    assert "taken away meanwhile" in cli.fails(78, "model", "evaluate", "--save", *sources)
    found = json.loads(path.read_text())["hold_out"]
    assert {source: one["two_class_accuracy"] for source, one in found.items()} == {"sanders": 0.25, "uci": 0.5}
    assert [source for source, _ in asked] == ["uci", "uci", "goemotions"]


@pytest.mark.long
def test_train_writes_a_bundle_that_can_be_used(cli: Cli, tmp_path: Path) -> None:
    """A recipe and a labelled CSV become a bundle whose folder is printed, and which `model show` finds in order."""
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    labelled = write_labelled(tmp_path / "labelled.csv", labelled_rows(120))
    made = cli.ok(
        "model", "train", str(tmp_path / "mine.yaml"), "--data", str(labelled), "--out", str(tmp_path / "made")
    )
    assert made.splitlines()[-1] == str(tmp_path / "made")
    pictures = {"learning_curves.png", "confusion_matrix.png", "reliability.png"}
    assert {path.name for path in (tmp_path / "made").glob("*.png")} == pictures
    assert json.loads(cli.ok("model", "show", str(tmp_path / "made"), "--json"))["name"] == "made"


def test_training_says_how_it_goes_on(cli: Cli, tmp_path: Path) -> None:
    """Where standard error is no terminal, log lines tell what is read, every epoch and what is written."""
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    labelled = write_labelled(tmp_path / "labelled.csv", labelled_rows(120))
    result = cli.run(
        "model", "train", str(tmp_path / "mine.yaml"), "--data", str(labelled), "--out", str(tmp_path / "made")
    )
    told = [json.loads(line)["event"] for line in result.stderr.splitlines()]
    assert told[:2] == ["reading labelled posts", "training on 101 posts, 19 held out"]
    assert told[2] == "stage only, epoch 1/3: batch 1 of 7"
    assert [line.partition(":")[0] for line in told if "loss" in line] == [f"stage only epoch {i}" for i in range(3)]


def test_a_shipped_recipe_learns_ones_own_posts_from_its_bundle(cli: Cli, tmp_path: Path) -> None:
    """`model train social-gru --data CSV` goes on from the shipped bundle; its card tells of these posts, no others."""
    labelled = write_labelled(tmp_path / "labelled.csv", labelled_rows(100))
    cli.ok("model", "train", "social-gru", "--data", str(labelled), "--out", str(tmp_path / "mine"))
    card = cli.ok("model", "show", str(tmp_path / "mine"), "--card")
    assert card.startswith("# mine\n")
    assert "first weights are those of the bundle social-gru (" in card
    assert "`sentiment-monitor model train social-gru --data labelled.csv`, seed 2013" in card
    assert "15 other posts of the file were held out" in card
    assert "Held-out posts by class" in card
    for absent in ("SemEval", "2016test", "tweets", "plain and hard", "MiniLM", "corpora"):
        assert absent not in card


def test_what_is_no_teacher_is_named(cli: Cli, tmp_path: Path) -> None:
    """Of the bundles that `--teacher` names, before a post is read."""
    labelled = write_labelled(tmp_path / "labelled.csv", labelled_rows(100))
    (tmp_path / "mine.yaml").write_text(f"{RECIPE}teacher_share: 0.5\n", encoding="utf-8")
    arguments = [
        "model",
        "train",
        str(tmp_path / "mine.yaml"),
        "--data",
        str(labelled),
        "--out",
        str(tmp_path / "made"),
    ]
    result = cli.run(*arguments, "--teacher", str(tmp_path / "tiny"), "--teacher", str(tmp_path))
    assert result.exit_code == 78
    assert f"{tmp_path / 'tiny'} is no teacher" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (labelled_rows(99), "training needs at least 100, and 10 of each label"),
        ([*(row for row in labelled_rows(300) if row[1] != "neutral"), *[("the shop", "neutral")]], "1 neutral"),
    ],
    ids=["few", "few of a label"],
)
def test_too_few_posts_are_refused_at_once(
    cli: Cli, tmp_path: Path, rows: list[tuple[str, str]], expected: str
) -> None:
    """A CSV too small to learn from is told in one sentence, and nothing is written."""
    labelled = write_labelled(tmp_path / "labelled.csv", rows)
    out = tmp_path / "mine"
    stderr = cli.fails(78, "model", "train", "social-gru", "--data", str(labelled), "--out", str(out))
    assert expected in stderr.splitlines()[-1]
    assert stderr.splitlines()[-1].startswith("sentiment-monitor: ")
    assert not out.exists()


def test_without_posts_the_ways_to_name_them_are_told(cli: Cli, tmp_path: Path) -> None:
    """Without labelled posts the message names SENTIMENT_DATA and --data."""
    cli.env["SENTIMENT_DATA"] = str(tmp_path / "nowhere")
    stderr = cli.fails(78, "model", "train", "social-gru")
    assert "SENTIMENT_DATA" in stderr
    assert "--data" in stderr
