"""Delimited text: as Python's csv module reads whole files; every broken line one reject with its line number."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.ingest.delivery import Reject
from careloop.ingest.tables import delimited
from careloop.ingest.tables.delimited import Dialect, delimited_rows

CELL = st.text(st.sampled_from('ab",;\t\n é0'), max_size=5)


def taken(file: Path, dialect: Dialect = delimited.PLAIN) -> tuple[pl.DataFrame, list[int], list[Reject]]:
    parts = list(delimited_rows(file, dialect))
    cells = [part.cells for part in parts if part.cells.width]
    lines = [line for part in parts for line in part.lines]
    return pl.concat(cells) if cells else pl.DataFrame(), lines, [reject for part in parts for reject in part.broken]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=8),
    quoting=st.sampled_from([0, 1]),
    block=st.integers(1, 40),
)
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], quoting: int, block: int
) -> None:
    """RFC 4180 with quotes, separators and line ends inside cells, at any size of block."""
    file = tmp_path_factory.mktemp("csv") / "person.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened, quoting=quoting, lineterminator="\n").writerows([["A", "b", "C"], *rows])
    patch = pytest.MonkeyPatch()
    patch.setattr(delimited, "BLOCK_BYTES", block)
    cells, lines, broken = taken(file)
    patch.undo()
    # A row that looks blank is no row; the csv module has none such, as it writes the separators.
    assert not broken
    assert [list(row) for row in cells.rows()] == rows
    assert cells.columns == ["a", "b", "c"]
    assert lines == [2 + i + sum(cell.count("\n") for row in rows[:i] for cell in row) for i in range(len(rows))]


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=300) | st.text(st.sampled_from('a,"\t\r\n\0'), max_size=60).map(str.encode),
    block=st.integers(1, 50),
)
def test_any_bytes_are_rows_or_rejects(tmp_path_factory: pytest.TempPathFactory, content: bytes, block: int) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    patch = pytest.MonkeyPatch()
    patch.setattr(delimited, "BLOCK_BYTES", block)
    for name, data in (("a.csv", content), ("b.csv.gz", content), ("c.tsv.gz", gzip.compress(content)[:-9])):
        (folder / name).write_bytes(data)
        cells, lines, _ = taken(folder / name)
        assert cells.height == len(lines)
        assert lines == sorted(set(lines))
    patch.undo()


def test_one_broken_line_is_one_reject_with_its_number(tmp_path: Path) -> None:
    rows = [f"{i},x{i}" for i in range(5000)]
    rows[1000] = "1000"
    rows[2000] = '2000,"never closed'
    rows[3000] = '3000,a 12" tube'
    rows[4000] = "4000,a,b"
    file = tmp_path / "note.csv"
    file.write_text("id,text\n" + "\n".join(rows) + "\n")
    cells, lines, broken = taken(file)
    assert [reject.place for reject in broken] == [f"note.csv line {n}" for n in (1002, 2002, 4002)]
    assert broken[1].raw == '2000,"never closed'
    assert cells.filter(id="3000")["text"].item() == 'a 12" tube'
    assert cells.height == 4997 == len(lines)
    assert lines[-1] == 5001


def test_line_ends_blank_lines_and_names(tmp_path: Path) -> None:
    file = tmp_path / "person.csv"
    file.write_bytes(b'"PERSON_ID";"Name"\r\n1;"a;b"\r\n\r\n2;c\r\n3;""')
    cells, lines, broken = taken(file)
    assert cells.rows() == [("1", "a;b"), ("2", "c"), ("3", "")]
    assert (cells.columns, lines, broken) == (["person_id", "name"], [2, 4, 5], [])


def test_tab_separated_files_do_not_quote_but_for_whole_cells(tmp_path: Path) -> None:
    file = tmp_path / "CONCEPT.csv"
    file.write_text('concept_id\tname\n1\t"Half" a quote\n2\ta "b\n3\t"two\nlines"\n4\t"say ""a"""\n5\t"open\n')
    assert taken(file)[0]["name"].to_list() == ['"Half" a quote', 'a "b', "two\nlines", 'say "a"', '"open']


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "person.csv"
    file.write_bytes("id,name\n1,Zoë\n2,Ü\n".encode(encoding))
    assert taken(file)[0].rows() == [("1", "Zoë"), ("2", "Ü")]


def test_mixed_encodings_and_nul(tmp_path: Path) -> None:
    file = tmp_path / "person.csv"
    file.write_bytes("id,name\n1,Zoë\n".encode() + "2,Ü\n".encode("cp1252") + b"3,a\0b\n")
    assert taken(file)[0].rows() == [("1", "Zoë"), ("2", "Ü"), ("3", "ab")]


def test_cut_off_gz_keeps_what_was_whole(tmp_path: Path) -> None:
    text = "id,value\n" + "".join(f"{i},{i * 7919 % 1000}\n" for i in range(200_000))
    packed = gzip.compress(text.encode())
    file = tmp_path / "measurement.csv.gz"
    file.write_bytes(packed[: len(packed) // 2])
    cells, _, broken = taken(file)
    assert 50_000 < cells.height < 150_000
    wanted = list(csv.reader(io.StringIO(text)))[1 : cells.height + 1]
    assert [list(row) for row in cells.rows()] == wanted
    assert [(reject.place, reject.reason) for reject in broken] == [("measurement.csv.gz end", "file ends early")]
    file.write_bytes(gzip.compress(b"id,value\n1,2\n") + gzip.compress(b"3,4\n"))
    assert taken(file)[0].rows() == [("1", "2"), ("3", "4")]


def test_a_dialect_says_how_a_file_is_written(tmp_path: Path) -> None:
    file = tmp_path / "person.csv"
    file.write_bytes('Title, made today\n\nLab;;"Other\nthings"\nCrea;Urea;\n1,5;2;ü\n'.encode("latin-1"))
    cells, lines, broken = taken(file, Dialect(skip_lines=1, header_lines=2, separator=";", encoding="latin-1"))
    assert (cells.columns, cells.rows()) == (["lab crea", "lab urea", "other things"], [("1,5", "2", "ü")])
    assert (lines, broken) == ([6], [])
    file.write_text("1\t2\n3\t4\n")
    assert taken(file, Dialect(header_lines=0))[0].rows(named=True)[1] == {"column_1": "3", "column_2": "4"}
    cells, lines, _ = taken(file, Dialect(header_lines=0, names=("a", "A")))
    assert (cells.columns, lines) == (["a", "\0" + "1"], [1, 2])


@pytest.mark.parametrize("block", [3, 1 << 20])
def test_a_header_over_several_blocks_and_a_quote_that_means_nothing(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    file = tmp_path / "person.csv"
    file.write_text('\n"first\nname",b\n1,2\n')
    cells, lines, broken = taken(file)
    assert (cells.columns, cells.rows(), lines, broken) == (["first name", "b"], [("1", "2")], [4], [])
    file.write_text('a 12" tube,b\n1,2\n')
    assert taken(file)[0].rows() == [("1", "2")]
