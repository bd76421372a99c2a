"""`score`: every row and column in order, three columns more, and nothing half-written."""

import csv
import gzip
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cli_runs import Cli, make_cli
from doubles import score_of
from tiny_models import make_bundle

from monitor.csv_scoring import Limits, Tally, check_whole, score_csv
from monitor.errors import UnusableInput
from monitor.posts import Reason, Score

LIMITS = Limits(max_batch_posts=3, max_batch_chars=10_000, max_text_chars=100)
AWKWARD = (
    '\ufeffwhen, Text ,label\r\n1,good,"a ""quoted"" cell"\r\n2,"two\nlines",\r\n3,  ,blank\r\n4,few\r\n'
    "5,many,x,y,z\r\n\r\n6,NA,null\r\n7,"
    + "long " * 30
    + ',x\r\n8,Grüße 🙂\x00,x\r\n9,"never closed,x\r\n10,last,x\r\n'
)


def score_texts(texts: Sequence[str]) -> list[Score]:
    """Scores without a bundle."""
    return [score_of(text) for text in texts]


def score(path: Path, column: str = "text") -> tuple[list[list[str]], Tally]:
    """The scored rows of a file, header first, and the tally."""
    out = io.StringIO()
    tally = score_csv(path, out, column, score_texts, LIMITS, lambda _: None)
    return list(csv.reader(io.StringIO(out.getvalue()))), tally


def write(path: Path, text: str) -> Path:
    """A UTF-8 file as it stands."""
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
def test_rows_and_columns_stay_in_order(tmp_path: Path, name: str) -> None:
    """Quotes, line breaks, blank and ragged rows come out as they went in, with a score where there is a text."""
    (header, *rows), tally = score(write(tmp_path / name, AWKWARD))
    assert header == ["when", " Text ", "label", "pos_prob", "pred", "label"]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "6", "7", "8", '9,"never closed,x', "10"]
    assert [row[3] != "" for row in rows] == [True, True, False, False, False, True, False, True, False, True]
    assert rows[0][:3] == ["1", "good", 'a "quoted" cell']
    assert rows[1][1] == "two\nlines"
    assert rows[3] == ["4", "few", "", "", "", ""]
    assert rows[4] == ["5", "many", "x", "", "", "", "y", "z"]
    assert rows[7][1] == "Grüße 🙂\x00"
    assert tally.n_rows == 10
    assert tally.unusable == {
        Reason.EMPTY_TEXT: (1, 5), Reason.BAD_ROW: (3, 6), Reason.TEXT_TOO_LONG: (1, 10),
    }  # fmt: skip


def test_scores_are_those_of_the_texts(tmp_path: Path) -> None:
    """pos_prob, pred and label are the scorer's, to the last digit, however rows fall into chunks."""
    texts = [f"text {n}" for n in range(20)]
    (_, *rows), _ = score(write(tmp_path / "in.csv", "text\n" + "\n".join(texts) + "\n"))
    assert [(float(row[1]), int(row[2]), row[3]) for row in rows] == [
        (expected.pos_prob, expected.pred, expected.label) for expected in map(score_of, texts)
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty"),
        (b"a,b\n1,2\n", "the header has no column text; it is: a, b"),
        (b"id;text\n1;2\n", "the columns are separated by semicolons, not by commas"),
        (b"text,text\nx,y\n", "the header has the column text more than once"),
        ("text\nx\n".encode("utf-16"), "it is UTF-16"),
        (b"text\nf\xfcr\n", "it is not UTF-8: line 2"),
        (b"PK\x03\x04rest", "it is a workbook or a zip archive"),
    ],
)
def test_what_is_no_csv_is_refused_as_a_whole(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A file that cannot be used is refused before a row is scored, in words for its owner."""
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(UnusableInput) as caught:
        check_whole(tmp_path / "in.csv", "text")
    assert caught.value.exit_code == 65
    assert str(caught.value).startswith(sentence)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Commands with a tiny bundle, and a drop folder whose texts stand in the column `body`."""
    make_bundle(tmp_path / "tiny")
    folder = {"name": "inbox", "kind": "drop_folder", "path": "inbox", "columns": {"text": "body"}}
    return make_cli(tmp_path, "sqlite:///x.db", scoring={"bundle": "tiny"}, sources=[folder])


def test_score_by_the_command(cli: Cli, tmp_path: Path, load_rows: Callable[[str], list[dict[str, str]]]) -> None:
    """A file becomes a file with scores from the configured bundle, and standard error counts the rows without."""
    write(tmp_path / "in.csv", "body,n\nI love it,1\n,2\nI hate it,3\n")
    result = cli.run("score", str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv"))
    assert result.exit_code == 0, result.output
    assert result.stderr == "1 of 3 rows have no score: empty_text 1 (first on line 3)\n"
    assert result.stdout == ""
    first, second, third = load_rows((tmp_path / "out.csv").read_text(encoding="utf-8"))
    assert (first["n"], second["n"], third["n"]) == ("1", "2", "3")
    assert 0 <= float(first["pos_prob"]) <= 1
    assert first["pred"] == str(int(float(first["pos_prob"]) >= 0.5))
    assert first["label"] in {"negative", "neutral", "positive"}
    assert (second["pos_prob"], second["pred"], second["label"]) == ("", "", "")


@pytest.fixture
def load_rows() -> Callable[[str], list[dict[str, str]]]:
    """Reads a CSV into dicts."""
    return lambda text: list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_score_from_standard_input(cli: Cli, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """`-` reads standard input, compressed or not, and writes what a file would give."""
    write(tmp_path / "in.csv", "words\nI love it\n")
    expected = cli.ok("score", str(tmp_path / "in.csv"), "--text-column", "words")
    assert cli.ok("score", "-", "--text-column", "words", input=pack(b"words\nI love it\n")) == expected
    assert expected.startswith("words,pos_prob,pred,label\nI love it,")


def test_a_refused_file_leaves_the_output_alone(cli: Cli, tmp_path: Path) -> None:
    """Where the input cannot be used, or the bundle cannot be found, an older output stays as it was."""
    out = write(tmp_path / "out.csv", "older\n")
    write(tmp_path / "in.csv", "text\nx\n")
    refused = cli.fails(65, "score", str(tmp_path / "in.csv"), "-o", str(out))
    assert f"{tmp_path / 'in.csv'} cannot be used: the header has no column body" in refused
    write(tmp_path / "in.csv", "body\nx\n")
    assert "nowhere" in cli.fails(78, "score", str(tmp_path / "in.csv"), "-o", str(out), "--bundle", "nowhere")
    assert out.read_text(encoding="utf-8") == "older\n"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_the_input_is_never_written_over(cli: Cli, tmp_path: Path) -> None:
    """-o may not name the input, by no other path either: the file stays as it is."""
    source = tmp_path / "in.csv"
    source.write_text("created_at,text\n2026-11-20,fine\n", encoding="utf-8")
    (tmp_path / "link.csv").symlink_to(source)
    for output in (source, tmp_path / "link.csv"):
        assert "is the input itself" in cli.fails(2, "score", str(source), "-o", str(output))
    assert source.read_text(encoding="utf-8") == "created_at,text\n2026-11-20,fine\n"


def test_columns_that_are_there_already_are_told(cli: Cli, tmp_path: Path) -> None:
    """An input with a label of its own keeps it; the new one comes after, and standard error says so."""
    write(tmp_path / "in.csv", "body,label\nI love it,mine\n")
    result = cli.run("score", str(tmp_path / "in.csv"))
    assert result.stdout.startswith("body,label,pos_prob,pred,label\nI love it,mine,")
    assert "the input has a column label too" in result.stderr
