"""Files in any packing and Unicode encoding give the same text; damage is said once, after what could be read."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from careloop.ingest import unpacking
from careloop.ingest.unpacking import DamagedError, opener

TEXT = "grün\n" * 1000


@pytest.mark.parametrize("size", [64, 1 << 16])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("packing", ["plain", "gzip", "two members", "zip", "gzip in zip"])
def test_text_comes_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str, encoding: str, size: int
) -> None:
    monkeypatch.setattr(unpacking, "READ_BYTES", size)
    data = TEXT.encode(encoding)
    if packing == "two members":
        data = gzip.compress(data[:9]) + gzip.compress(data[9:]) + b"\0" * 5
    elif packing.startswith("gzip"):
        data = gzip.compress(data)
    file = tmp_path / "file"
    if packing.endswith("zip") and packing != "gzip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("member", data)
        read = opener(file, "member")
    else:
        file.write_bytes(data)
        read = opener(file)
    assert b"".join(read()).decode() == TEXT
    assert b"".join(read()).decode() == TEXT  # from its beginning again


def test_what_stands_before_the_damage_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT.encode())[:-9])
    found = []
    with pytest.raises(DamagedError, match="file ends early"):
        found.extend(opener(tmp_path / "a.gz")())
    assert b"".join(found).decode() == TEXT
    with pytest.raises(DamagedError, match="file ends early or is damaged"):
        list(opener(tmp_path / "nothing")())
