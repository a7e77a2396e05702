"""Pictures: grey and colour values as pillow has them; no place is made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from careloop import InputError
from careloop.imaging.read.picture import read_picture


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.arange(12, dtype=np.uint8).reshape(3, 4), (1, 3, 4)),
        (np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000, (1, 3, 4)),
        (np.arange(36, dtype=np.uint8).reshape(3, 4, 3), (1, 3, 4, 3)),
    ],
)
def test_values_are_kept(tmp_path: Path, array: np.ndarray, shape: tuple[int, ...]) -> None:
    Image.fromarray(array).save(tmp_path / "p.png")
    read = read_picture(tmp_path / "p.png", modality="DX")
    assert read.voxels.shape == shape
    np.testing.assert_array_equal(read.voxels[0], array)
    assert not read.placed
    assert read.findings[0].check == "no geometry"


def test_palette_and_transparency_become_plain(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").voxels[0, 0, 0], [10, 20, 30])
    Image.new("P", (2, 2), 3).save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png").voxels.shape == (1, 2, 2, 3)


def test_a_camera_turned_on_its_side(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.new("L", (4, 2)).save(tmp_path / "t.jpg", exif=exif)
    assert read_picture(tmp_path / "t.jpg").voxels.shape == (1, 4, 2)


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_picture(tmp_path / "x.png")
    Image.new("L", (100, 100)).save(tmp_path / "l.png")
    raw = (tmp_path / "l.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_picture(tmp_path / "cut.png")
    monkeypatch.setenv("CARELOOP_IMAGE_LIMIT_GIB", "1e-6")
    with pytest.raises(InputError, match="above the limit"):
        read_picture(tmp_path / "l.png")
