"""Waveform headers to events, beside wfdb and edfio reading the same (made-up) files, and any bytes at all."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import polars as pl
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.ingest.waveforms import waveform_sources
from careloop.ingest.waveforms.edf_header import read_edf
from careloop.ingest.waveforms.recording import kind_of
from careloop.ingest.waveforms.wfdb_header import WfdbHeader, parse_wfdb_header, read_wfdb

# The form of the PhysioNet/CinC Challenge 2020, which writes the date first and names the month.
CHALLENGE_2020 = """\
A0001 1 500 7500 05-Feb-2020 11:39:16
A0001.mat 16+24 1000/mV 16 0 28 -1716 0 I
#Age: NaN
#Sex: Female
#Dx: 59118001,426783006
#Rx: Unknown
"""
PTB_LIKE = """\
p1 3 500 5000 11:39:16.5 05/02/2020
p1.dat 16+24 1000/mV 16 0 28 -1716 0 I
p1.dat 16+24 1000/mV 16 0 7 2029 0 aVR
p1.dat 16x2 200.5(-3)/mmHg 16 0 -21 3745 0 ABP radial
#Age: 74
#Sex: Male
#Dx: 59118001,Weißer Kittel, Unknown
"""


def read(path: Path, **given: Any) -> dict[str, Any]:
    batches = [batch for source in waveform_sources(path, **given) for batch in source.read()]
    rejected = [reject for batch in batches for reject in batch.rejected]
    skipped = sum((Counter(batch.skipped) for batch in batches), Counter())
    rows, kept = (sum(getattr(batch, name) for batch in batches) for name in ("rows_read", "rows_kept"))
    assert rows == kept + len(rejected) + skipped.total()
    events = pl.concat([batch.events for batch in batches])
    return {"events": events, "reasons": [reject.reason for reject in rejected], "skipped": skipped}


def recording(path: Path) -> Any:
    with path.open("rb") as file:
        return read_edf(file, path.stem, path.stat().st_size, UTC)


def test_wfdb_record(tmp_path: Path) -> None:
    (tmp_path / "p1.hea").write_text(PTB_LIKE, encoding="utf-8")
    events = read(tmp_path, time_zone="Europe/Berlin")["events"]
    rows = {row["code"]: row for row in events.iter_rows(named=True)}
    ecg = rows["WAVEFORM//ECG"]
    assert ecg["time"] == datetime(2020, 2, 5, 10, 39, 16, 500_000, tzinfo=UTC)
    assert ecg["known_time"] == datetime(2020, 2, 5, 10, 39, 26, 500_000, tzinfo=UTC)
    assert (ecg["numeric_value"], ecg["unit"]) == (10.0, "s")
    assert ecg["text_value"] == "fs=500 Hz; units=mV; gain=1000; signals=I, aVR"
    assert rows["WAVEFORM//ABP radial"]["text_value"] == "fs=1000 Hz; units=mmHg; gain=200.5; signals=ABP radial"
    assert (rows["LOINC//30525-0"]["numeric_value"], rows["GENDER//M"]["time"]) == (74.0, None)
    assert {"SNOMED//59118001", "LOCAL//weißer kittel"} <= set(rows)
    assert set(events["subject"]) == {"p1"}
    assert ecg["asset"] == (tmp_path / "p1.hea").absolute().as_uri()


def test_challenge_2020_header(tmp_path: Path) -> None:
    (tmp_path / "A0001.hea").write_text(CHALLENGE_2020)
    events = read(tmp_path)["events"]
    assert set(events["code"]) == {"WAVEFORM//ECG", "GENDER//F", "SNOMED//59118001", "SNOMED//426783006"}
    assert events["time"].drop_nulls().unique().to_list() == [datetime(2020, 2, 5, 11, 39, 16, tzinfo=UTC)]
    assert events["known_time"].drop_nulls().unique().to_list() == [datetime(2020, 2, 5, 11, 39, 31, tzinfo=UTC)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frequency=st.sampled_from([0.5, 100, 360, 257.3]),
    gains=st.lists(st.floats(1, 5000).map(lambda gain: round(gain, 3)), min_size=1, max_size=4),
    samples=st.integers(1, 50),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),
)
def test_wfdb_headers_read_as_wfdb_reads_them(
    tmp_path: Path, frequency: float, gains: list[float], samples: int, start: datetime
) -> None:
    names = [f"lead {number}" for number in range(len(gains))]
    wfdb.wrsamp(
        "r1",
        fs=frequency,
        units=["mV"] * len(gains),
        sig_name=names,
        d_signal=np.zeros((samples, len(gains)), dtype=int),
        fmt=["16"] * len(gains),
        adc_gain=gains,
        baseline=[0] * len(gains),
        base_date=start.date(),
        base_time=start.time(),
        write_dir=str(tmp_path),
    )
    theirs = wfdb.rdheader(str(tmp_path / "r1"))
    header = parse_wfdb_header((tmp_path / "r1.hea").read_text())
    assert isinstance(header, WfdbHeader)
    ours = read_wfdb(header, None, UTC)
    assert not isinstance(ours, str)
    assert [signal.label for signal in ours.signals] == theirs.sig_name
    assert [signal.gain for signal in ours.signals] == theirs.adc_gain
    assert [signal.unit for signal in ours.signals] == theirs.units
    assert ours.duration_s == pytest.approx(theirs.sig_len / theirs.fs)
    assert ours.start == theirs.base_datetime.replace(tzinfo=UTC)


def test_multi_segment_record_is_one_recording(tmp_path: Path) -> None:
    (tmp_path / "m1.hea").write_text("m1/3 1 125 2000 8:26:04 26/10/1994\nm1_layout 0\nm1_1 1000\n~ 1000\n")
    (tmp_path / "m1_layout.hea").write_text("m1_layout 1 125 0\n~ 0 86/mV 0 0 0 0 0 II\n")
    (tmp_path / "m1_1.hea").write_text("m1_1 1 125 1000\nm1_1.dat 80 86/mV 8 0 0 0 0 II\n")
    result = read(tmp_path)
    assert result["skipped"] == {"part of a multi-segment record": 2}
    assert result["events"]["code"].to_list() == ["WAVEFORM//ECG"]
    assert result["events"]["numeric_value"].to_list() == [16.0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("r one 500", "the record line is malformed (name, number of signals, frequency, samples, time, date)"),
        ("", "the record line is malformed (name, number of signals, frequency, samples, time, date)"),
        ("r 1 0 10 1:2:3 1/1/2020\nr.dat 16\n", "the sampling frequency must be a positive number"),
        ("r 1 10 10\nr.dat 16\n", "no start date in the header: give it in column time of the samples file"),
        (
            "r 1 10 10 1:2:3 30/2/2020\nr.dat 16\n",
            "no start date in the header: give it in column time of the samples file",
        ),
        ("r 1 10 10 1:2:3 1/2/2020\nr.dat\n", "signal line 1 is malformed (file, format, gain, ..., label)"),
    ],
)
def test_broken_wfdb_headers(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "r.hea").write_text(content)
    assert read(tmp_path)["reasons"] == [reason]


def test_links_give_patient_and_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.hea").write_text(f"{name} 1 10 100\n{name}.dat 16 200 12 0 0 0 0 V5\n")
    links = tmp_path / "links.csv"
    links.write_text("sample,subject,time\na,P7,2023-05-01T10:00:00+02:00\n")
    result = read(tmp_path, samples=links, origin="ecg")
    row = result["events"].row(0, named=True)
    assert (row["subject"], row["time"]) == ("ecg:P7", datetime(2023, 5, 1, 8, tzinfo=UTC))
    assert result["reasons"] == ["recording is not in the samples file"]


def edf(path: Path, **given: Any) -> edfio.Edf:
    bdf = path.suffix == ".bdf"
    signal = edfio.BdfSignal if bdf else edfio.EdfSignal
    labels = (("ECG II", 256, "uV"), ("EEG Fpz-Cz", 128, "uV"), ("EEG Pz-Oz", 128, "uV"))
    signals = [signal(np.arange(hz * 4.0), hz, label=label, physical_dimension=unit) for label, hz, unit in labels]
    written = (edfio.Bdf if bdf else edfio.Edf)(signals, **given)
    written.write(path)
    return written


@pytest.mark.parametrize("name", ["r1.edf", "r1.bdf"])
def test_edf_headers_read_as_edfio_reads_them(tmp_path: Path, name: str) -> None:
    patient = edfio.Patient(code="MRN-7", sex="F", birthdate=date(1956, 7, 4), name="Sophie_Roux")
    about = edfio.Recording(startdate=date(2031, 2, 28))
    edf(tmp_path / name, patient=patient, recording=about, starttime=time(23, 59, 58), annotations=[])
    theirs = (edfio.read_bdf if name.endswith("bdf") else edfio.read_edf)(tmp_path / name)
    ours = recording(tmp_path / name)
    assert [signal.label for signal in ours.signals] == [signal.label for signal in theirs.signals]
    assert [signal.frequency_hz for signal in ours.signals] == [signal.sampling_frequency for signal in theirs.signals]
    gains = [(s.digital_max - s.digital_min) / (s.physical_max - s.physical_min) for s in theirs.signals]
    assert [signal.gain for signal in ours.signals] == pytest.approx(gains)
    assert ours.duration_s == theirs.duration
    assert ours.start == datetime.combine(theirs.startdate, theirs.starttime, tzinfo=UTC)
    assert (ours.patient, ours.birth.date()) == (theirs.patient.code, theirs.patient.birthdate)
    events = read(tmp_path)["events"]
    codes = {"WAVEFORM//ECG", "WAVEFORM//EEG", "GENDER//F", "MEDS_BIRTH"}
    assert set(events["code"]) == codes
    assert set(events["subject"]) == {"MRN-7"}
    assert "Sophie" not in str(events.rows())


def test_plain_edf_and_a_file_cut_off(tmp_path: Path) -> None:
    written = edf(tmp_path / "r1.edf", recording=edfio.Recording(startdate=date(1999, 12, 31)))
    content = bytearray((tmp_path / "r1.edf").read_bytes())
    content[192:236] = b" " * 44
    content[8:88] = b"case 12".ljust(80)
    (tmp_path / "r1.edf").write_bytes(content[: written.bytes_in_header_record + 2100])
    row = read(tmp_path)["events"].row(0, named=True)
    assert (row["subject"], row["numeric_value"]) == ("case 12", 2.0)
    assert row["text_value"].endswith("cut off: 2 of 4 data records")


@pytest.mark.parametrize(
    ("place", "content", "reason"),
    [
        (0, b"1       ", "not EDF or BDF: the first eight bytes name neither"),
        (252, b"0   ", "the number of signals and the size of the header disagree"),
        (236, b"many    ", "header counts are not numbers (bytes, data records, duration of one, signals)"),
        (168, b"99.99.99", "no start date in the header: give it in column time of the samples file"),
        (256 + 3 * 216, b"0       ", "samples in a data record are not a positive number"),
    ],
)
def test_broken_edf_headers(tmp_path: Path, place: int, content: bytes, reason: str) -> None:
    edf(tmp_path / "r1.edf", recording=edfio.Recording(startdate=date(1999, 12, 31)))
    whole = bytearray((tmp_path / "r1.edf").read_bytes())
    whole[place : place + len(content)] = content
    (tmp_path / "r1.edf").write_bytes(whole)
    assert read(tmp_path)["reasons"] == [reason]
    (tmp_path / "r1.edf").write_bytes(whole[:300])
    assert read(tmp_path)["reasons"]


@pytest.mark.parametrize(
    ("label", "kind"),
    [("MLII", "ECG"), ("aVF", "ECG"), ("v6", "ECG"), ("EKG1", "ECG"), ("SaO2 finger", "SaO2"), ("PLETH", "PLETH"),
     ("ABP", "ABP"), ("C4-A1", "EEG"), ("P1", "P1"), ("", "unknown")],
)  # fmt: skip
def test_kinds_of_signals(label: str, kind: str) -> None:
    assert kind_of(label) == kind


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        waveform_sources(tmp_path / "nothing")
    with pytest.raises(InputError, match="no waveform header here"):
        waveform_sources(tmp_path)
    with pytest.raises(InputError, match="IANA name"):
        waveform_sources(tmp_path, time_zone="Mars/Olympus")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_events_or_a_counted_reject(tmp_path: Path, data: st.DataObject) -> None:
    if not (tmp_path / "seed.edf").exists():
        edf(tmp_path / "seed.edf", recording=edfio.Recording(startdate=date(1999, 12, 31)))
    seed = (tmp_path / "seed.edf").read_bytes()[:1200]
    content = bytearray(data.draw(st.sampled_from([seed, PTB_LIKE.encode()])))
    for _ in range(data.draw(st.integers(0, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=50))
    place = tmp_path / "files"
    place.mkdir(exist_ok=True)
    for name in ("x.hea", "x.edf"):
        (place / name).write_bytes(content)
    read(place)
