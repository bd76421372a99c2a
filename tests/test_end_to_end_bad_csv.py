"""Every row of the bad-input table that a CSV can meet, through the whole daemon: exact reasons, places and reports."""

import gzip
from pathlib import Path

import pytest
from daemon_process import write_config
from fixtures_daemon import RunOnce
from stored import check_days, check_totals, posts, select, url_in
from traffic import drop

HEADER = "created_at,text,user_id,id,brand\n"
GOOD = "2026-11-20T10:00,good {},ann,,acme\n"
#: reason and the row that gets it
BAD_ROWS = (
    ("empty_text", "2026-11-20T10:00,,ann,,acme\n"),
    ("empty_text", '2026-11-20T10:00,"\t \r\n",ann,,acme\n'),
    ("bad_created_at", ",no time,ann,,acme\n"),
    ("bad_created_at", "yesterday,no time either,ann,,acme\n"),
    ("bad_created_at", "1989-12-31T23:59:59,too early,ann,,acme\n"),
    ("future_created_at", "2099-01-01,too late,ann,,acme\n"),
    ("id_conflict", "2026-11-20T10:00,another text,ann,7,acme\n"),
    ("text_too_long", f"2026-11-20T10:00,{'long ' * 5000},ann,,acme\n"),
    ("bad_row", "2026-11-20T10:00,one field more,ann,,acme,\n"),
    ("bad_row", "2026-11-20T10:00,two fields fewer,ann\n"),
    ("too_many_brands", "2026-11-20T10:00,one brand too many,ann,,globex\n"),
)
#: name, content and what the report says
BAD_FILES = (
    ("no-text-column.csv", b"created_at,body\n2026-11-20,hello\n", "no column text"),
    ("empty.csv", b"", "it is empty"),
    ("semicolons.csv", b"created_at;text\n2026-11-20;hello\n", "separated by semicolons"),
    ("utf-16.csv", "created_at,text\n2026-11-20,hello\n".encode("utf-16"), "UTF-16"),
    ("latin-1.csv", "created_at,text\n2026-11-20,Grüße\n".encode("latin-1"), "not UTF-8: line 2"),
    ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, ""),
    ("cut.csv.gz", gzip.compress(b"created_at,text\n" + b"2026-11-20,hello\n" * 999, mtime=0)[:-20], ""),
)


def test_bad_rows_are_refused_where_they_stand_and_the_rows_around_them_count(
    tmp_path: Path, tiny_bundle: str, run_once: RunOnce
) -> None:
    """One dead letter each with reason, row and line; the report has counts and first lines; good rows all count."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle}, max_brands=1)
    lines = [HEADER, "2026-11-20T10:00,first,ann,7,acme\n"]
    expected: list[tuple[int, str]] = []
    first_lines: dict[str, int] = {}
    for number, (reason, row) in enumerate(BAD_ROWS):
        first_lines.setdefault(reason, sum(line.count("\n") for line in lines) + 1)
        expected.append((len(lines) - 1, reason))
        lines += [row, GOOD.format(number)]
    odd = [
        '2026-11-20T10:00,"NUL \0, bidi \u202e, bell \x07, ""quotes"" and\nlines",ann,,acme\n',
        "2026-11-20,NA,null,None,acme\n",
    ]
    content = drop(tmp_path, "rows.csv", "".join([*lines, *odd]).encode())
    assert run_once(config) == 0
    letters = select(url_in(tmp_path), "SELECT position, reason, detail, raw FROM dead_letters ORDER BY position")
    assert letters["detail"].str.fullmatch(r"line \d+ of rows\.csv: .+").all()
    assert list(zip(letters["position"], letters["reason"], strict=True)) == expected
    for (_, row), raw in zip(BAD_ROWS, letters["raw"], strict=True):
        assert raw == (HEADER.replace("\n", "\r\n") + row).encode()[:65_536]
    found = posts(url_in(tmp_path))
    assert len(found) == 1 + len(BAD_ROWS) + len(odd)
    assert found["pos_prob"].notna().all()
    assert 'NUL \ufffd, bidi \u202e, bell \x07, "quotes" and\nlines' in set(found["text"])
    assert found.loc[found["text"] == "NA", ["user_id", "id"]].values.tolist() == [["null", "None"]]
    check_totals(url_in(tmp_path))
    check_days(url_in(tmp_path), found)
    (report,) = (tmp_path / "inbox" / "done").glob("*.report.txt")
    text = report.read_text()
    assert f"rows counted:     {len(found)}\n" in text
    for reason, line in first_lines.items():
        assert f"  {reason}: {sum(one == reason for one, _ in BAD_ROWS)}, first on line {line}\n" in text
    assert (tmp_path / "inbox" / "done" / report.name.removesuffix(".report.txt")).read_bytes() == content


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path, tiny_bundle: str, run_once: RunOnce) -> None:
    """Beyond 1 MiB, and again where the file ends before; every other row counts."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle})
    long = [f"2026-11-20T10:00,{number} {'word ' * 3000},ann,,acme\n" for number in range(80)]
    broken = ['2026-11-20T10:00,"never closed,ann,,acme\n']
    drop(tmp_path, "quotes.csv", "".join([HEADER, GOOD, *broken, *long, *broken, GOOD.format(2)]).encode())
    assert run_once(config) == 0
    letters = select(url_in(tmp_path), "SELECT position, reason FROM dead_letters ORDER BY position")
    assert list(letters.itertuples(index=False, name=None)) == [(1, "record_too_long"), (82, "bad_row")]
    assert len(posts(url_in(tmp_path))) == 82


def test_unusable_files_go_to_failed_with_a_sentence_and_the_next_one_counts(
    tmp_path: Path, tiny_bundle: str, run_once: RunOnce, capsys: pytest.CaptureFixture[str]
) -> None:
    """One dead letter bad_file for each; nothing of them counts; hidden and unfinished files are not touched."""
    config = write_config(tmp_path, scoring={"bundle": tiny_bundle})
    for name, content, _ in BAD_FILES:
        drop(tmp_path, name, content)
    untouched = {".hidden.csv", "later.csv.part", "later.csv.tmp", "notes.txt"}
    for name in untouched:
        (tmp_path / "inbox" / name).write_bytes(b"created_at,text\n2026-11-20,hello\n")
    drop(tmp_path, "zipped.csv.gz", gzip.compress(b"\xef\xbb\xbf Created_At , TEXT \r\n2026-11-20,hello\r\n"))
    assert run_once(config) == 0
    printed = capsys.readouterr().out
    assert "inbox: 1 counted" in printed
    assert f"inbox: {len(BAD_FILES)} files cannot be used (bad_file)" in printed
    letters = select(url_in(tmp_path), "SELECT position, reason, detail, raw FROM dead_letters")
    assert list(letters["position"]) == [-1] * len(BAD_FILES)
    assert set(letters["reason"]) == {"bad_file"}
    assert set(letters["raw"]) == {content for _, content, _ in BAD_FILES}
    for name, content, words in BAD_FILES:
        (report,) = (tmp_path / "inbox" / "failed").glob(f"*-{name}.report.txt")
        assert words in report.read_text()
        assert letters["detail"].str.startswith(f"{name}: ").sum() == 1
        assert (report.parent / report.name.removesuffix(".report.txt")).read_bytes() == content
    assert {path.name for path in (tmp_path / "inbox").iterdir() if path.is_file()} == untouched
