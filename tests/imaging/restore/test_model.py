"""Restoration models as folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_denoiser import small_model

from careloop import InputError
from careloop.imaging.restore.model import DESCRIPTION, WEIGHTS, read_restoration


def test_a_model_reads_back_as_it_was_written(tmp_path: Path) -> None:
    made = small_model(tmp_path)
    read = read_restoration(tmp_path)
    assert read.said == made.said
    assert read.said.version
    assert read.made_by == f"small {read.said.version}"
    x = torch.rand(1, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(read.build()(x), made.build()(x))
    assert (tmp_path / WEIGHTS).stat().st_size < 2.5 * sum(p.numel() for p in read.build().parameters()) + 4000


def test_version_follows_from_everything_that_is_said(tmp_path: Path) -> None:
    first, other = small_model(tmp_path / "a"), small_model(tmp_path / "b", intended_use="others")
    assert first.said.version != other.said.version


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / WEIGHTS).write_bytes(b"no"), "is not the file that"),
        (lambda f: (f / WEIGHTS).unlink(), "cannot be read"),
        (lambda f: (f / DESCRIPTION).unlink(), "has no model.json"),
        (lambda f: (f / DESCRIPTION).write_text("{}"), "train the model again"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage, words: str) -> None:
    small_model(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=words):
        read_restoration(tmp_path)


def test_a_model_that_says_nothing_of_level_maps_is_given_one(tmp_path: Path) -> None:
    """As models of before they could be several."""
    small_model(tmp_path)
    said = json.loads((tmp_path / DESCRIPTION).read_text())
    del said["level_maps"]
    (tmp_path / DESCRIPTION).write_text(json.dumps(said))
    assert read_restoration(tmp_path).build()(torch.rand(1, 2, 8, 8)).shape == (1, 2, 8, 8)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    small_model(tmp_path)
    said = json.loads((tmp_path / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps(said | {"features": [4, 16]}))
    with pytest.raises(InputError, match="does not fit the network"):
        read_restoration(tmp_path).build()
