"""README.md says what the program does: its tour is run, its queries answered, its tables compared with the code."""

import calendar
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import time
from itertools import takewhile
from pathlib import Path

import click
import pytest
import yaml
from bench_measure import Report
from daemon_process import environment, wait_until
from fixtures_slack import FakeSlack
from ports import free_port
from pydantic import BaseModel
from readme_parts import (
    README,
    RESULTS,
    ROOT,
    blocks,
    figure_rows,
    metric_rows,
    names_in,
    run_tour,
    speed_rows,
    table,
    tables,
    tour,
)
from test_layering import FLOORS

from models.recipe import find_recipe, list_recipes, read_tree
from monitor import errors
from monitor.alerts import Kind
from monitor.cli import program
from monitor.config import BrandRule, Config, DropFolderSection, KafkaSection, Section, SourceSection
from monitor.posts import Reason
from monitor.store import alerts as alert_store
from monitor.store.schema import metadata

TEXT = README.read_text(encoding="utf-8")
BOOKKEEPING = ("settings", "brands", "files", "recent_outcomes", "episodes", "label_sums", "instances")
LAST_DIGIT = 0.0011  #: of three decimals: another CPU may round the last one the other way


# ---- the tour ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_the_tour_prints_what_it_says(tmp_path: Path, slack: FakeSlack) -> None:
    """Every command of the tour, run in a fresh home folder, prints what stands below it; the test message arrives."""
    slack.token = "xoxb-..."
    printed = run_tour(tmp_path, {"SENTIMENT_MONITOR__ALERTS__SLACK__BASE_URL": slack.url})
    for step, now in zip(tour(), printed, strict=True):
        assert _differences(step.printed, now) == [], f"{step.commands} prints\n{now}"
    assert [one.channel for one in slack.posted] == [slack.channels["brand-alerts"]]
    with (tmp_path / "sentiment" / "plot.png").open("rb") as plot:
        assert plot.read(4) == b"\x89PNG"


def _differences(said: str, printed: str) -> list[tuple[str, str]]:
    """Lines that differ in more than blanks and the last digit of a decimal."""
    one, other = (re.sub("@[0-9a-f]{8}", "@", each).splitlines() for each in (said, printed))
    pairs = list(zip(one, other, strict=True)) if len(one) == len(other) else [(said, printed)]
    return [pair for pair in pairs if not _are_equal(*pair)]


def _are_equal(said: str, printed: str) -> bool:
    if said.startswith("ok    device"):  # what stands there belongs to the machine
        return printed.startswith("ok    device")
    one, other = re.split(r"[\s,]+", said), re.split(r"[\s,]+", printed)
    return len(one) == len(other) and all(a == b or _are_close(a, b) for a, b in zip(one, other, strict=True))


def _are_close(said: str, printed: str) -> bool:
    is_decimal = re.fullmatch(r"0\.\d+", said) and re.fullmatch(r"0\.\d+", printed)
    return bool(is_decimal) and abs(float(said) - float(printed)) < LAST_DIGIT


# ---- the alert and the picture -----------------------------------------------------------------------------------


def test_the_demo_shows_the_alert(tmp_path: Path) -> None:
    """Within a minute the demo prints its daily table and an alert laid out like the one at the top; SIGINT ends it."""
    shown = _printed_by_demo(tmp_path)
    alert = shown[shown.index("┌") : shown.index("Posts keep")]
    assert _shape(alert.strip()) == _shape(blocks("text", "alert")[0].body)
    assert re.search(r"^brand +day +total +mean_pos +ma3\n(\S.*\n){15}", shown, re.MULTILINE)


def _printed_by_demo(folder: Path) -> str:
    command = [sys.executable, "-m", "monitor", "demo", "--port", str(free_port())]
    printed, env = folder / "printed.txt", environment(TMPDIR=str(folder))
    with printed.open("wb") as out, subprocess.Popen(command, stdout=out, env=env) as demo:
        try:
            wait_until(lambda: "Posts keep coming" in printed.read_text(encoding="utf-8"), "the demo's alert")
            demo.send_signal(signal.SIGINT)
            assert demo.wait(25) == 0
        finally:
            demo.kill()
    return printed.read_text(encoding="utf-8")


def _shape(alert: str) -> list[str]:
    """Its lines without figures, dates and bars; quotes, which may be longer or shorter, left out."""
    days, months = "|".join(calendar.day_name), "|".join((*calendar.month_name[1:], *calendar.month_abbr[1:]))
    shape = re.sub(rf"\b(?:{days})\b", "DAY", re.sub(rf"\b(?:{months})\b", "MONTH", alert))
    lines = re.sub(r"[\d,]*\d|[▁▂▃▄▅▆▇█·]+", "0", shape).splitlines()
    return [line for line in lines if not line.startswith("│ ▌")]


@pytest.mark.parametrize("path", re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT))
def test_pictures_are_there_and_small(path: str) -> None:
    """A picture is a PNG of at most 150 KiB."""
    picture = (ROOT / path).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= 150 * 1024


# ---- links, files, floors ----------------------------------------------------------------------------------------


def test_links_lead_somewhere() -> None:
    """Every link inside the repository names a file that is there, every link inside the page a heading."""
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", TEXT) if not target.startswith("http")]
    headings = {f"#{heading.lower().replace(' ', '-')}" for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    assert len(targets) > 10
    assert [one for one in targets if one not in headings and not (ROOT / one).exists()] == []


def test_files_that_it_names_are_there() -> None:
    """Every Python file named in text and diagram is there, from the top or from monitor/."""
    names = set(re.findall(r"[\w/]+\.py\b", TEXT))
    assert len(names) > 25
    assert [name for name in names if not ((ROOT / name).exists() or (ROOT / "monitor" / name).exists())] == []


def test_floors_are_in_their_order() -> None:
    """The floors are those of the layering test, from the top down, and each line is one floor."""
    number = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    shown = [{number[room] for room in line.split()} for line in blocks("text", "floors")[0].body.splitlines()]
    assert all(len(floors) == 1 for floors in shown)
    order = [next(iter(floors)) for floors in shown]
    assert order == sorted(set(order))


# ---- configuration, commands, words ------------------------------------------------------------------------------


def _defaults(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, object]]:
    """Dotted key and default of everything but sources, times of day as they are written."""
    for name, field in model.model_fields.items():
        if name in {"base_dir", "sources"}:
            continue
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _defaults(kind, f"{before}{name}.")
        else:
            value = "required" if field.is_required() else field.get_default(call_default_factory=True)
            yield f"{before}{name}", value.strftime("%H:%M") if isinstance(value, time) else value


def _default_in(cell: str) -> object:
    return cell if cell == "required" else yaml.safe_load(cell.strip("`"))


def test_every_key_and_its_default() -> None:
    """The configuration table has every key with the default that config.py gives it, in that order."""
    said = [(names_in(row[0])[0], _default_in(row[1])) for row in table("| key |")]
    assert said == list(_defaults(Config))


def test_every_key_of_a_source() -> None:
    """So has the table of sources; the keys of a brand's own rule are named."""
    said = {(names_in(key)[0], kind): _default_in(default) for key, kind, default, _ in table("| key of a source |")}
    expected = {(key, "both"): default for key, default in _defaults(SourceSection)} | {("kind", "both"): "required"}
    for kind, model in (("drop_folder", DropFolderSection), ("kafka", KafkaSection)):
        own = {key: default for key, default in _defaults(model) if (key, "both") not in expected}
        expected |= {(key, kind): default for key, default in own.items()}
    assert said == expected
    brands = next(row for row in table("| key |") if row[0] == "`alerts.brands`")[2]
    assert set(BrandRule.model_fields) <= set(names_in(brands))


def _leaves(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _leaves(command, (*words, name))
        else:
            yield " ".join((*words, name))


def _command_in(usage: str) -> str:
    return " ".join(takewhile(re.compile("[a-z][a-z-]*$").match, usage.split()))


def test_every_command_and_exit_code() -> None:
    """The tables of commands and exit codes are complete and name nothing that is not there."""
    _, commands = tables("| command | what it does |")
    assert {_command_in(name) for row in commands for name in names_in(row[0])} - {""} == set(_leaves(program))
    tree = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.MonitorError)]
    assert {int(row[0]) for row in table("| exit code |")} == {0, 2} | {error.exit_code for error in tree}


def test_reasons_states_and_kinds() -> None:
    """Every reason of a dead letter, state and kind of an alert is explained, and no other."""
    assert [names_in(row[0])[0] for row in table("| reason |")] == [reason.value for reason in Reason]
    assert [names_in(row[0])[0] for row in table("| state |")] == list(alert_store.STATES)
    assert [names_in(row[0])[0] for row in table("| kind |")] == [kind.value for kind in Kind]


def test_metrics_and_figures() -> None:
    """Metrics are listed as declared, the model's figures are those of its report, speeds those that are kept."""
    assert table("| metric |") == metric_rows()
    assert table("| set | system |") == figure_rows()
    assert table("| measured |") == speed_rows()


def test_kept_figures_are_those_of_the_benchmark() -> None:
    """The page that is read, and that the table of speeds is made from, is what the kept JSON says."""
    kept = Report.read(RESULTS.with_suffix(".json"))
    assert RESULTS.read_text(encoding="utf-8") == kept.page()


def test_figures_of_the_correction() -> None:
    """They are those of the committed run, in which real days follow the second heading."""
    run = (ROOT / "tests" / "correction-coverage.txt").read_text(encoding="utf-8").split("\n\n")
    lines = [line.split() for line in run[2].splitlines()[2:]]
    shown = table("| labels | error of mean_pos |")
    assert shown == [[*line[1:4], line[4], line[5], line[7]] for line in lines]
    assert (
        f"interval held the human mean in {float(run[4].splitlines()[-1].split()[5].rstrip('%')):.0f}% of cases" in TEXT
    )


# ---- tables and queries ------------------------------------------------------------------------------------------


def test_every_table_and_column() -> None:
    """Each table that users query is shown with all its columns, bookkeeping tables are named with theirs."""
    shown = {name: [column for row in rows for column in names_in(row[0])] for name, rows in _shown_tables().items()}
    own = dict(re.findall(r"`(\w+)` \(((?:`\w+`(?:, )?)+)\)", TEXT.split("Bookkeeping, not for queries:")[1]))
    assert list(own) == list(BOOKKEEPING)
    shown |= {name: names_in(columns) for name, columns in own.items()}
    assert shown == {name: list(one.columns.keys()) for name, one in metadata.tables.items()}


def _shown_tables() -> dict[str, list[list[str]]]:
    names = re.findall(r"^\*\*`(\w+)`\*\*:.*\n\n\| columns \|", TEXT, re.MULTILINE)
    return dict(zip(names, tables("| columns |"), strict=True))


def test_every_recipe_of_a_task() -> None:
    """The table of recipes has each that ships, with the figure that it is held to as the recipe words it."""
    (rows,) = tables("| recipe | what it is |")
    held = {names_in(row[0])[0]: row[3] for row in rows}
    trees = {name: read_tree(find_recipe(name)) for name in list_recipes()}
    of_tasks = {name: str(tree.get("must_reach", "")) for name, tree in trees.items() if "task" in tree}
    assert set(held) == set(of_tasks)
    for name, text in of_tasks.items():
        assert figures_in(held[name])[:1] == figures_in(text)[:1], name


def figures_in(text: str) -> list[str]:
    """Decimals below one."""
    return re.findall(r"\b0\.\d+", text)


def test_figures_of_recipes_are_those_of_their_cards() -> None:
    """What is said of a run at full size stands in the first row of the card that is kept of it."""
    pattern = r"\[`[\w-]+`\]\((models/recipes/reports/[\w-]+\.md)\) got (0\.\d{3}) of ([\d,]+)"
    told = re.findall(pattern, README.read_text(encoding="utf-8"))
    kept = (ROOT / "models" / "recipes" / "reports").iterdir()
    assert {path for path, _, _ in told} == {path.relative_to(ROOT).as_posix() for path in kept}
    for path, accuracy, posts in told:
        assert f" {posts} | {accuracy} " in re.sub(" +", " ", (ROOT / path).read_text(encoding="utf-8"))
