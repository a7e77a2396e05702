"""DICOMweb against Debian's Orthanc: results out and back, resumed and refused; and against a server that fails."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dicom_series as made
import highdicom as hd
import numpy as np
import polars as pl
import pydicom
import pytest

from careloop import InputError
from careloop.imaging import read
from careloop.imaging.pacs import TOKEN, fetch_series, find_series, find_studies, store_files
from careloop.imaging.read.segmentations import read_segmentation
from careloop.imaging.volume import LabelMap, Segment, Volume
from careloop.imaging.write.secondary_capture import write_secondary_capture
from careloop.imaging.write.segmentation import write_segmentation
from careloop.imaging.write.structured_report import write_structured_report

ORTHANC = shutil.which("Orthanc") or ("/usr/sbin/Orthanc" if Path("/usr/sbin/Orthanc").exists() else None)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
has_orthanc = pytest.mark.skipif(
    ORTHANC is None or not PLUGIN.exists(), reason="needs Debian's orthanc and orthanc-dicomweb"
)
has_head = pytest.mark.skipif(not made.HEAD_CT.exists(), reason="needs Debian's invesalius-examples")
BONE_HU = 250


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Orthanc of its own that asks for a password, which ~/.netrc has."""
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "HttpPort": port, "DicomServerEnabled": False, "RemoteAccessAllowed": False, "StorageDirectory": str(folder),
        "IndexDirectory": str(folder), "Plugins": [str(PLUGIN)], "AuthenticationEnabled": True,
        "RegisteredUsers": {"careloop": "secret"}, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    (folder / "netrc").write_text("machine 127.0.0.1 login careloop password secret\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETRC", str(folder / "netrc"))
        patch.delenv(TOKEN, raising=False)
        log = (folder / "log").open("w")
        server = subprocess.Popen([str(ORTHANC), str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            _wait(f"http://127.0.0.1:{port}/system", server)
            yield f"http://127.0.0.1:{port}/dicom-web"
        finally:
            server.terminate()
            server.wait(timeout=20)
            log.close()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError:
            return  # it asks for the password, so it is there
        except OSError:
            assert server.poll() is None, "Orthanc ended; see its log"
            time.sleep(0.05)
    raise AssertionError("Orthanc did not start")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    voxels, affine = made.head_ct()
    return made.write_series(tmp_path_factory.mktemp("head"), voxels, affine)


def _skull(volume: Volume) -> LabelMap:
    """Bone above 250 HU (the largest connected part is 1, the rest 2): a stand-in for a model's labels."""
    from scipy.ndimage import label

    parts, _ = label(volume.voxels > BONE_HU)
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    labels = np.where(parts == largest, 1, np.where(parts > 0, 2, 0)).astype(np.uint8)
    segments = (Segment(1, "skull"), Segment(2, "other bone"))
    return LabelMap(labels, volume.affine, segments, made_by="bone threshold 1.0", source=volume.source)


@has_orthanc
@has_head
@pytest.mark.parametrize("encoding", ["labelmap", "binary"])
def test_head_ct_segmentation_comes_back_identical(archive: str, head: Volume, tmp_path: Path, encoding: str) -> None:
    if encoding == "binary":  # some slices will do
        head = made.write_series(tmp_path / "some", head.voxels[:24], head.affine)
    skull = _skull(head)
    file = write_segmentation(skull, head, tmp_path / "seg.dcm", encoding=encoding)  # type: ignore[arg-type]
    assert store_files(archive, [file]).stored == (file,)

    sent = pydicom.dcmread(file)
    (back,) = fetch_series(archive, head.source.study, str(sent.SeriesInstanceUID), tmp_path / "back")

    segmentation = hd.seg.segread(back)
    volume = segmentation.get_volume(combine_segments=True)
    slices = slice(0, len(skull.labels))
    if encoding == "binary":  # empty slices at the ends have no frames
        used = np.flatnonzero(skull.labels.any(axis=(1, 2)))
        slices = slice(used[0], used[-1] + 1)
    first = np.append(np.array([slices.start, 0, 0]), 1.0)
    # highdicom orders slices so that the axes are right-handed, here from head to feet.
    upward = volume.affine[2, 0] > 0
    array, affine = (volume if upward else volume.flip_spatial(0)).array, volume.affine.copy()
    if not upward:
        affine = volume.flip_spatial(0).affine
    np.testing.assert_array_equal(array, skull.labels[slices])
    np.testing.assert_allclose(affine[:3, :3], head.affine[:3, :3], atol=1e-6)
    np.testing.assert_allclose(affine[:3, 3], (head.affine @ first)[:3], atol=1e-6)
    if encoding == "labelmap":
        plain = pydicom.dcmread(back)
        np.testing.assert_array_equal(_upwards(plain), skull.labels)
        assert plain.FrameOfReferenceUID == head.source.frame_of_reference


def _upwards(dataset: pydicom.Dataset) -> np.ndarray:
    """The frames by pydicom alone, from feet to head."""
    heights = [
        float(g.PlanePositionSequence[0].ImagePositionPatient[2]) for g in dataset.PerFrameFunctionalGroupsSequence
    ]
    return dataset.pixel_array[np.argsort(heights)]


@has_orthanc
def test_report_and_picture_are_stored_once_however_often_sent(archive: str, tmp_path: Path) -> None:
    volume = made.write_series(tmp_path / "ct", np.zeros((4, 16, 16), np.int16), made.affine_of())
    labels = np.zeros((4, 16, 16), np.uint8)
    labels[1:3, 4:9, 4:9] = 1
    skull = LabelMap(labels, volume.affine, (Segment(1, "skull"),), made_by="test 1")
    coded = {"scheme": "IBSI", "value": "RNU0", "meaning": "Volume of Mesh"}
    measured = pl.DataFrame(
        {"name": ["skull"], "quantity": ["volume"], "value": [1.5], "unit": ["mL"], "concept": [coded]}
    )
    picture = np.full((20, 30, 3), (10, 200, 30), dtype=np.uint8)
    for _ in range(2):
        files = [
            write_segmentation(skull, volume, tmp_path / "seg.dcm"),
            write_structured_report(measured, tmp_path / "seg.dcm", tmp_path / "sr.dcm", volume=volume),
            write_secondary_capture(picture, volume, tmp_path / "sc.dcm"),
        ]
        assert not store_files(archive, files).failed

    found = {series.modality: series for series in find_series(archive, volume.source.study)}
    assert {kind: found[kind].instances for kind in ("SEG", "SR", "OT")} == {"SEG": 1, "SR": 1, "OT": 1}
    assert found["OT"].description == "Segmentation, not for clinical use"
    (sr,) = fetch_series(archive, volume.source.study, found["SR"].series, tmp_path / "sr")
    (group,) = hd.sr.srread(sr).content.get_volumetric_roi_measurement_groups()
    assert [m.value for m in group.get_measurements()] == [1.5]
    (sc,) = fetch_series(archive, volume.source.study, found["OT"].series, tmp_path / "sc")
    np.testing.assert_array_equal(pydicom.dcmread(sc).pixel_array, picture)


@has_orthanc
def test_series_of_images_comes_back_equal_and_resumes(archive: str, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 2000, (7, 24, 20)).astype(np.int16)
    volume = made.write_series(tmp_path / "ct", voxels, made.affine_of(turn_deg=20))
    sent = [Path(file) for file in volume.source.files]
    assert store_files(archive, sent).stored == tuple(sent)

    where = (archive, volume.source.study, volume.source.series)
    files = fetch_series(*where, tmp_path / "back")
    by_uid = {pydicom.dcmread(file).SOPInstanceUID: file for file in files}
    for file in sent:
        original = pydicom.dcmread(file)
        back = pydicom.dcmread(by_uid[original.SOPInstanceUID])
        assert back.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        assert back == original
    lost, kept = files[2], files[3]
    lost.unlink()
    kept.write_bytes(b"not fetched again")
    seen: list[tuple[str, int, int]] = []
    assert fetch_series(*where, tmp_path / "back", progress=lambda *done: seen.append(done)) == files
    assert seen == [("fetched", n, 7) for n in range(1, 8)]
    assert pydicom.dcmread(lost).Rows == 24
    assert kept.read_bytes() == b"not fetched again"
    assert not list((tmp_path / "back").glob(".unfinished*"))


@has_orthanc
def test_series_is_read_equal_by_the_reader(archive: str, tmp_path: Path) -> None:
    voxels = np.random.default_rng(1).integers(-1000, 2000, (5, 24, 20)).astype(np.int16)
    volume = made.write_series(tmp_path / "ct", voxels, made.affine_of())
    store_files(archive, map(Path, volume.source.files))
    fetch_series(archive, volume.source.study, volume.source.series, tmp_path / "back")
    (series,) = read.find_series(tmp_path / "back")
    back = read.read_series(series)
    np.testing.assert_array_equal(back.voxels, voxels)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9)
    labels = LabelMap((voxels > 0).astype(np.uint8), back.affine, (Segment(1, "half"),), made_by="test 1")
    file = write_segmentation(labels, back, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_segmentation(file, volume=back).labels, labels.labels)


@has_orthanc
def test_studies_are_found_by_filter(archive: str, tmp_path: Path) -> None:
    volume = made.write_series(tmp_path / "ct", np.zeros((2, 8, 8), np.int16), made.affine_of())
    store_files(archive, map(Path, volume.source.files))
    (found,) = find_studies(archive, filters={"StudyInstanceUID": volume.source.study})
    assert (found.study, found.date, found.modalities) == (volume.source.study, "20240102", ("CT",))
    assert find_studies(archive, filters={"PatientID": "nobody"}) == ()


@has_orthanc
def test_refusals_say_what_to_do(archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no instances of that series"):
        fetch_series(archive, "1.2.3", "1.2.4", tmp_path)
    with pytest.raises(InputError, match="UID"):
        fetch_series(archive, "../1", "1.2.4", tmp_path)
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"no DICOM")
    assert [(f.path, f.reason) for f in store_files(archive, [bad]).failed] == [(bad, "cannot be read as DICOM")]
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"refused access \(HTTP 401\); set CARELOOP_DICOMWEB_TOKEN"):
        find_studies(archive)


class _Failing(BaseHTTPRequestHandler):
    """Takes the first object with a warning, refuses the second with a reason, the third without one; notes tokens."""

    tokens: list[str] = []  # noqa: RUF012 (one server at a time)

    def do_POST(self) -> None:
        self.tokens.append(self.headers.get("Authorization", ""))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers["Content-Length"]))
        item = {"00081150": {"vr": "UI", "Value": ["1.2"]}, "00081155": {"vr": "UI", "Value": ["1.2"]}}
        refused = {"00081198": {"vr": "SQ", "Value": [item | {"00081197": {"vr": "US", "Value": [0xA700]}}]}}
        warned = {"00081199": {"vr": "SQ", "Value": [item | {"00081196": {"vr": "US", "Value": [0xB000]}}]}}
        status, answer = [(202, warned), (409, refused), (409, None)][len(self.tokens) - 1]
        body = json.dumps(answer).encode() if answer else b"<html>"
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json" if answer else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_partial_failures_are_told_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = made.write_series(tmp_path / "ct", np.zeros((3, 8, 8), np.int16), made.affine_of())
    monkeypatch.setenv(TOKEN, "abc")
    _Failing.tokens.clear()
    server = HTTPServer(("127.0.0.1", 0), _Failing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        result = store_files(f"http://127.0.0.1:{server.server_port}", map(Path, volume.source.files))
    finally:
        server.shutdown()
        server.server_close()
    first, second, third = map(Path, volume.source.files)
    assert result.stored == (first,)
    assert [(w.path, w.reason) for w in result.warnings] == [(first, "warning B000")]
    reasons = [(second, "out of resources (A700)"), (third, "refused by the archive (HTTP 409)")]
    assert [(f.path, f.reason) for f in result.failed] == reasons
    assert _Failing.tokens == ["Bearer abc"] * 3


def test_tokens_stay_off_plain_http_and_errors_hide_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "abc")
    with pytest.raises(InputError, match="over https only"):
        find_studies("http://pacs.example/dicom-web")
    monkeypatch.delenv(TOKEN)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{unused.getsockname()[1]}/dicom-web"
        with pytest.raises(InputError, match="cannot be reached") as caught:
            find_studies(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="must begin with https"):
        find_studies("ftp://pacs.example")
