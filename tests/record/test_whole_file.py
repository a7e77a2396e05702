"""A file is there whole or not at all."""

import pytest

from careloop.record.whole_file import whole_file


def test_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "folder" / "table.csv"
    with whole_file(path) as draft:
        draft.write_text("half")
        assert not path.exists()
        assert draft.suffix == ".csv"
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write():
        with whole_file(path) as draft:
            draft.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
