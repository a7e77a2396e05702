"""ONNX folders: what the user writes is read as meant, and each slip is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from careloop import InputError
from careloop.imaging.segment.formats.onnx import EXAMPLE, is_onnx, read_onnx


def write(folder: Path, **changes: object) -> Path:
    content = yaml.safe_load(EXAMPLE) | changes
    (folder / "model.onnx").write_bytes(b"not looked into here")
    (folder / "model.yaml").write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return folder


def test_the_example_of_the_help_is_read(tmp_path: Path) -> None:
    assert not is_onnx(tmp_path)
    model = read_onnx(write(tmp_path))
    assert is_onnx(tmp_path)
    assert [(s.number, s.name) for s in model.segments] == [(1, "heart"), (2, "lung_left")]
    assert model.outputs == 3
    assert model.preparation.spacing_mm == (1.5, 1.5, 1.5)
    assert model.preparation.normalizations[0].low == -1000
    assert model.tiling.patch == (96, 96, 96)
    assert model.body_parts == ("CHEST", "THORAX")
    assert model.networks[0].onnx == tmp_path / "model.onnx"


def test_a_changed_description_is_another_version(tmp_path: Path) -> None:
    before = read_onnx(write(tmp_path)).version
    assert read_onnx(write(tmp_path, overlap=0.25)).version != before


def test_sigmoid_outputs_are_regions(tmp_path: Path) -> None:
    model = read_onnx(write(tmp_path, output="sigmoid"))
    assert (model.outputs, model.decision, model.region_labels) == (2, "regions", (1, 2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": {1: "a", 3: "b"}}, "without a gap"),
        ({"orientation": "SPS"}, "three different axes"),
        ({"scaling": [{"scheme": "zscore"}] * 2}, r"one a channel \(1\)"),
        ({"mirror_axes": [3]}, "axes of the patch"),
        ({"patch": None}, "patch: Field required"),
        ({"pach": [1, 2, 3]}, "pach: Extra inputs"),
        ({"scaling": {"scheme": "magic"}}, "scaling"),
    ],
)
def test_each_slip_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_onnx(write(tmp_path, **changes))


def test_a_missing_description_says_what_it_must_hold(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"model.yaml is missing.*channels: \[CT\]"):
        read_onnx(tmp_path)
