"""`model calibrate` as it is typed: labels that correct a brand, a bundle fitted anew, and what is refused."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from batches import DAY, NOW, post, rules, scored
from cli_runs import Cli, make_cli
from sqlalchemy import text
from tiny_models import labelled_rows, make_bundle, write_labelled

from models.bundle import Bundle
from models.calibrate import fit_calibration
from models.calibration import Calibration
from monitor.corrections import MIN_LABELS
from monitor.scorer import BundleScorer
from monitor.store import daily
from monitor.store.database import Database
from monitor.store.saving import Saver


@pytest.fixture
def cli(tmp_path: Path, store_url: str) -> Cli:
    """Commands whose configured bundle is a small one."""
    make_bundle(tmp_path / "tiny")
    return make_cli(tmp_path, store_url, scoring={"bundle": "tiny"})


def write_labels(cli: Cli, rows: Sequence[Sequence[str]], columns: Sequence[str] = ("brand", "text", "label")) -> str:
    """A CSV beside the configuration."""
    path = cli.config.parent / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return str(path)


def rows_of(brand: str, n: int) -> list[tuple[str, str, str]]:
    """Labelled posts of a brand."""
    return [(brand, text, label) for text, label in labelled_rows(n, seed=3)]


def test_labels_fill_the_corrected_columns(cli: Cli, database: Database) -> None:
    """From the command to the daily row; no text of the file is stored."""
    scorer = BundleScorer.load("tiny", "cpu", cli.config.parent)
    texts = [text for text, _ in labelled_rows(80, seed=9)]
    posts = [post(n, text=text) for n, text in enumerate(texts)]
    Saver(database, rules()).save(scored(posts, scorer.score_texts(texts), model=scorer.model))
    daily.refresh(database, NOW)
    labels = write_labels(cli, [*rows_of(" acme ", 120), *rows_of("", 60)])
    said = cli.run("model", "calibrate", "--labels", labels)
    assert said.exit_code == 0, said.output
    assert "nothing was ever counted under default" in said.stderr
    assert f"stored for {scorer.model}" in said.stdout
    daily.refresh(database, NOW)
    (row,) = daily.daily_rows(database, brand="acme", since=DAY, until=DAY)
    assert row.mean_pos_corrected is not None
    assert row.corrected_low is not None
    assert row.corrected_high is not None
    assert row.corrected_low < row.mean_pos_corrected < row.corrected_high
    stored = database.read(lambda c: c.execute(text("SELECT * FROM label_sums ORDER BY brand")).all())
    assert [(one.brand, one.n, one.model) for one in stored] == [
        ("acme", 120, scorer.model),
        ("default", 60, scorer.model),
    ]
    assert {type(value) for one in stored for value in one[2:-1]} == {int}


def test_what_the_labels_say_is_printed(cli: Cli, database: Database) -> None:
    """Posts, both means, slope and error, a brand a line; another bundle than the configured one can be prepared."""
    assert daily.daily_rows(database) == []
    labels = write_labels(cli, rows_of("acme", 120))
    make_bundle(cli.config.parent / "next")
    (row,) = map(json.loads, cli.ok("model", "calibrate", "next", "--labels", labels, "--json").splitlines())
    assert (row["brand"], row["posts"]) == ("acme", 120)
    expected = np.mean(
        [["negative", "neutral", "positive"].index(label) / 2 for _, label in labelled_rows(120, seed=3)]
    )
    assert row["mean_label"] == pytest.approx(expected)
    assert 0 <= row["slope"] <= 1
    assert 0.01 < row["label_error"] < 0.1


FEW, MANY = rows_of("acme", MIN_LABELS - 1), rows_of("acme", MIN_LABELS)
REFUSED = {
    "no rows": ([], ("brand", "text", "label"), "has no labelled posts"),
    "a column missing": ([row[1:] for row in MANY], ("text", "label"), "needs the columns brand, text, label; line 2"),
    "another label": ([*MANY, ("acme", "x", "happy")], ("brand", "text", "label"), "line 52: label 'happy' is none of"),
    "blank text": ([*MANY, ("acme", " ", "neutral")], ("brand", "text", "label"), "line 52: there is no text"),
    "few": ([*MANY, *rows_of("globex", 7)], ("brand", "text", "label"), "brand 'globex' has 7 labelled posts; 50 are"),
    "one label": ([("acme", f"t {n}", "neutral") for n in range(60)], ("brand", "text", "label"), "have one label"),
}


@pytest.mark.parametrize(("rows", "columns", "expected"), REFUSED.values(), ids=REFUSED)
def test_unusable_labels_are_told_in_a_sentence(
    cli: Cli, database: Database, rows: Sequence[Sequence[str]], columns: Sequence[str], expected: str
) -> None:
    """Exit 78, and nothing is stored."""
    assert expected in cli.fails(78, "model", "calibrate", "--labels", write_labels(cli, rows, columns))
    assert database.read(lambda c: c.execute(text("SELECT count(*) FROM label_sums")).scalar()) == 0


def test_one_of_labels_and_out(cli: Cli) -> None:
    """Wrong usage is told before anything is loaded."""
    labels = write_labels(cli, MANY)
    assert "either --labels" in cli.fails(2, "model", "calibrate")
    assert "either --labels" in cli.fails(2, "model", "calibrate", "--labels", labels, "--out", "x")
    assert "--data goes with --out" in cli.fails(2, "model", "calibrate", "--labels", labels, "--data", labels)


@pytest.mark.parametrize("classes", [("negative", "positive"), ("negative", "neutral", "positive")], ids=len)
def test_a_bundle_is_fitted_anew(tmp_path: Path, classes: tuple[str, ...], sqlite_url: str) -> None:
    """The copy has the calibration that `fit_calibration` gives, says where it came from, and is served."""
    make_bundle(tmp_path / "tiny", classes)
    cli = make_cli(tmp_path, sqlite_url, scoring={"bundle": "tiny"})
    rows = labelled_rows(300, seed=4)
    labelled, out = write_labelled(tmp_path / "l.csv", rows), tmp_path / "fitted"
    report = json.loads(cli.ok("model", "calibrate", "--data", str(labelled), "--out", str(out), "--json"))
    assert report["after"]["log_loss_balanced"] <= report["before"]["log_loss_balanced"]
    chosen = [(text, classes.index(label)) for text, label in rows if label in classes]
    logits = Bundle.load(tmp_path / "tiny", "cpu").logits([text for text, _ in chosen])
    expected = fit_calibration(logits, np.array([label for _, label in chosen]))
    assert Calibration.load(out / "calibration.json", len(classes)).bias == pytest.approx(expected.bias)
    assert report["posts"] == len(chosen)
    loaded = Bundle.load(out, "cpu")
    assert (loaded.name, loaded.metrics) == ("fitted", {})
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["trained"]["calibrated"]["posts"] == len(chosen)
    assert "there already" in cli.fails(78, "model", "calibrate", "--data", str(labelled), "--out", str(out))


def test_too_few_posts_of_a_class_are_refused(tmp_path: Path, sqlite_url: str) -> None:
    """Before the bundle is copied."""
    make_bundle(tmp_path / "tiny")
    cli = make_cli(tmp_path, sqlite_url, scoring={"bundle": "tiny"})
    labelled, out = write_labelled(tmp_path / "l.csv", labelled_rows(90, seed=4)), tmp_path / "fitted"
    assert "50 posts of each class" in cli.fails(78, "model", "calibrate", "--data", str(labelled), "--out", str(out))
    assert not out.exists()
