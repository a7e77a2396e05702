"""CDISC files: one meaning in every file format, and rejects instead of crashes."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop.ingest.cdisc import cdisc_sources
from careloop.ingest.cdisc.xport import Reading, xport_rows
from careloop.ingest.delivery import ARRIVING, Batch

EXAMPLE = Path(__file__).parent / "cdisc_example"


def read(path: Path, **choices: Any) -> dict[str, Batch]:
    """All batches of each source as one; what each says of its rows adds up."""
    whole = {}
    for source in cdisc_sources(path, **choices):
        batches = list(source.read())
        for batch in batches:
            assert batch.rows_read == batch.rows_kept + len(batch.rejected) + sum(batch.skipped.values())
            assert not (batch.events["known_time"] < batch.events["time"]).any()
        whole[Path(source.name).name.partition(".")[0]] = Batch(
            pl.concat([ARRIVING.to_frame(), *(batch.events for batch in batches)], how="diagonal"),
            sum(batch.rows_read for batch in batches),
            sum(batch.rows_kept for batch in batches),
            [reject for batch in batches for reject in batch.rejected],
            dict(sum((Counter(batch.skipped) for batch in batches), Counter())),
        )
    return whole


def test_one_dataset_in_sas_transport_and_dataset_json_gives_equal_events(tmp_path: Path) -> None:
    for ending in ("xpt", "ndjson"):
        (tmp_path / ending).mkdir()
        for file in EXAMPLE.glob(f"*.{ending}"):
            (tmp_path / ending / file.name).write_bytes(file.read_bytes())
    (tmp_path / "json").mkdir()
    for file in EXAMPLE.glob("*.ndjson"):
        head, *lines = file.read_text().splitlines()
        whole = json.loads(head) | {"rows": [json.loads(line) for line in lines]}
        (tmp_path / "json" / f"{file.stem}.json").write_text(json.dumps(whole, indent=1))
    found = {ending: read(tmp_path / ending) for ending in ("xpt", "ndjson", "json")}
    assert {name: batch.rows_read for name, batch in found["xpt"].items()} == {"dm": 18, "mh": 17, "suppdm": 3}
    for name, batch in found["xpt"].items():
        for ending in ("ndjson", "json"):
            assert_frame_equal(batch.events, found[ending][name].events)
            assert batch.skipped == found[ending][name].skipped
    # The one of several races, which SUPPDM names.
    assert "RACE//asian and black or african american and white" in found["xpt"]["dm"].events["code"]


def test_of_several_formats_in_a_folder_one_is_read() -> None:
    assert [Path(source.name).name for source in cdisc_sources(EXAMPLE)] == ["dm.xpt", "mh.xpt", "suppdm.xpt"]


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    plain = {"USUBJID": "1", "PARAMCD": "ALT", "PARAM": "Alanine (U/L)", "ADT": 19739, "TRTSDT": 19725}
    table = pl.DataFrame([plain | {"LBSEQ": 1, "AVAL": 18.0}, plain | {"LBSEQ": 2, "AVAL": 21.5}])
    typed = table.with_columns(ADT=pl.Series([date(2014, 1, 16)] * 2), TRTSDT=pl.Series([date(2014, 1, 2)] * 2))
    for name, frame in (("csv", table), ("parquet", typed)):
        (tmp_path / name).mkdir()
        frame.write_csv(tmp_path / name / "adlb.csv") if name == "csv" else frame.write_parquet(
            tmp_path / name / "adlb.parquet"
        )
    first, second = (read(tmp_path / name)["adlb"].events for name in ("csv", "parquet"))
    assert_frame_equal(first, second)


def transport(path: Path, table: pl.DataFrame, version: int = 5) -> Path:
    """A transport file, written by another library."""
    pyreadstat = pytest.importorskip("pyreadstat")
    pyreadstat.write_xport(table.to_pandas(), path, file_format_version=version, table_name=path.stem.upper())
    return path


@pytest.mark.parametrize("version", [5, 8])
def test_transport_files_are_read_as_another_library_reads_them(tmp_path: Path, version: int) -> None:
    pyreadstat = pytest.importorskip("pyreadstat")
    numbers = [0.0, 1.0, -1.5, 1e-30, 1e30, 0.1, 123456.789, float(np.pi), None]
    table = pl.DataFrame(
        {"USUBJID": [f"é{n}" for n in range(9)], "VALUE": numbers, "TEXT": ["", *"abcdefg", "x" * 200]}
    )
    file = transport(tmp_path / "x.xpt", table, version)
    ours = pl.concat([part.cells for part in xport_rows(file, Reading(batch_rows=4))])
    assert ours["USUBJID"].to_list() == table["USUBJID"].to_list()
    assert ours["TEXT"].to_list() == table["TEXT"].to_list()
    theirs, _ = pyreadstat.read_xport(file, output_format="polars")
    assert ours["VALUE"].to_list() == theirs["VALUE"].to_list()
    for real in EXAMPLE.glob("*.xpt"):
        theirs, _ = pyreadstat.read_xport(real, output_format="polars", disable_datetime_conversion=True)
        mine = pl.concat([part.cells for part in xport_rows(real)])
        assert_frame_equal(mine, theirs.with_columns(pl.col(pl.String).fill_null("")), check_dtypes=False)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(min_value=1e-70, max_value=1e70), st.booleans())
def test_numbers_of_ibm_computers(number: float, negative: bool) -> None:
    """Against the definition: sign, exponent of 16 with excess 64, fraction."""
    from careloop.ingest.cdisc.xport import _numbers

    exponent, fraction = 64, number
    while fraction >= 1:
        fraction, exponent = fraction / 16, exponent + 1
    while fraction < 1 / 16:
        fraction, exponent = fraction * 16, exponent - 1
    coded = int((128 if negative else 0) + exponent).to_bytes(1, "big") + int(fraction * 2**56).to_bytes(7, "big")
    found = _numbers(np.frombuffer(coded, dtype=np.uint8).reshape(1, 8)).item()
    assert found == pytest.approx(-number if negative else number, rel=1e-15)


@pytest.mark.parametrize("length", [0, 79, 600, 3000, 6000])
def test_a_cut_transport_file_keeps_the_rows_before_the_cut(tmp_path: Path, length: int) -> None:
    whole = (EXAMPLE / "dm.xpt").read_bytes()
    (tmp_path / "dm.xpt").write_bytes(whole[:length])
    batch = read(tmp_path)["dm"]
    every = read(EXAMPLE / "dm.xpt")["dm"]
    assert len(batch.rejected) == 1
    assert batch.rejected[0].reason in {"file ends early", "not a SAS transport file (XPORT)"}
    assert batch.rows_kept < every.rows_kept
    assert (batch.rows_kept > 0) == (length == 6000)
    assert_frame_equal(batch.events, every.events.head(batch.events.height))


def test_a_cut_dataset_json_file_says_so(tmp_path: Path) -> None:
    lines = (EXAMPLE / "dm.ndjson").read_bytes().splitlines(keepends=True)
    (tmp_path / "dm.ndjson").write_bytes(b"".join(lines[:5]) + b'["not", "whole"]\n' + lines[6][:20])
    batch = read(tmp_path)["dm"]
    assert batch.rows_kept == 4
    reasons = Counter(reject.reason for reject in batch.rejected)
    assert reasons == {"not an array of as many values as there are columns": 2, "file ends early": 1}


def test_windows_and_other_encodings(tmp_path: Path) -> None:
    table = pl.DataFrame({"DOMAIN": "MH", "USUBJID": "1", "MHSEQ": 1, "MHTERM": "ALZHEIMER@S", "MHSTDTC": "2014"})
    file = transport(tmp_path / "mh.xpt", table)
    plain = file.read_bytes()
    file.write_bytes(plain.replace(b"@", b"\x92"))
    assert read(tmp_path)["mh"].events["code"].to_list() == ["CDISC//MH//ALZHEIMER’S"]
    file.write_bytes(plain.replace(b"ALZHEIMER@S", "頭痛".encode("shift_jis") + b"       "))
    assert read(tmp_path, encoding="shift_jis")["mh"].events["code"].to_list() == ["CDISC//MH//頭痛"]


def test_sas_files_are_read_to_the_last_row(tmp_path: Path) -> None:
    pytest.importorskip("pyreadstat")
    whole = gzip.decompress((EXAMPLE / "date_test.sas7bdat.gz").read_bytes())
    (tmp_path / "date_test.sas7bdat").write_bytes(whole)
    batch = read(tmp_path)["date_test"]
    assert batch.skipped == {"dataset: neither demographics, findings, events, interventions nor analysis": 20}
    (tmp_path / "date_test.sas7bdat").write_bytes(whole[:3000])
    assert [reject.reason for reject in read(tmp_path)["date_test"].rejected] == [
        "not a readable SAS7BDAT file from here on"
    ]


def test_trial_design_and_other_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "ta.csv").write_text("STUDYID,DOMAIN,ARMCD\nS1,TA,Pbo\n")
    (tmp_path / "other.csv").write_text("a\n1\n")
    (tmp_path / "spec.json").write_text("{}")
    found = read(tmp_path)
    assert found["ta"].skipped == {"TA: not about a patient": 1}
    assert found["other"].rows_kept == 0
    assert [reject.reason for reject in found["spec"].rejected] == ["not Dataset-JSON: no rows"]


ENDINGS = ("xpt", "sas7bdat", "json", "ndjson", "csv", "parquet")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(ENDINGS), st.sampled_from(("dm", "lb", "adlb", "ta")), st.binary(max_size=400))
@example("csv", "dm", b"*;\n1;2")
@example("csv", "dm", b"usubjid;^u.*$;*\n1;2;3\n1;2;3")
def test_any_bytes_give_rejects(tmp_path: Path, ending: str, name: str, content: bytes) -> None:
    file = tmp_path / f"{name}.{ending}"
    file.write_bytes(content)
    read(file)
    file.unlink()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(("dm.xpt", "mh.xpt", "dm.ndjson", "mh.ndjson")), st.data())
@example("dm.xpt", None)
def test_any_damage_to_a_real_file_gives_events_or_rejects(
    tmp_path: Path, name: str, data: st.DataObject | None
) -> None:
    content = bytearray((EXAMPLE / name).read_bytes())
    if data is not None:
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        del content[data.draw(st.integers(0, len(content))) :]
    (tmp_path / name).write_bytes(content)
    read(tmp_path / name)
