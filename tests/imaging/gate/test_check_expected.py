"""A model's input: what is another modality, another part of the body or no HU is refused, what is unknown noted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.sr._concepts_dict import concepts

from careloop import InputError
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.gate import check_expected
from careloop.imaging.gate.body_parts import EVERYWHERE, regions
from careloop.imaging.volume import Volume

HEAD = Volume(
    np.linspace(-1024, 2000, 60, dtype=np.float32).reshape(3, 4, 5), np.eye(4), "CT", "[hnsf'U]", body_part="HEAD"
)


def verdicts(volume: Volume, modality: str = "CT", body_parts: tuple[str, ...] = ()) -> dict[str, str]:
    try:
        found = check_expected([volume], modalities=(modality,), body_parts=body_parts, channels=("image",))
    except RefusedSeriesError as error:
        found = error.findings
    return {finding.check: finding.verdict for finding in found}


def test_what_the_model_was_made_for_passes() -> None:
    assert verdicts(HEAD, body_parts=("HEAD",)) == {}
    assert check_expected([HEAD], modalities=(), body_parts=(), channels=("image",)) == ()


@pytest.mark.parametrize(
    ("change", "modality", "check"),
    [
        ({"modality": "MR", "unit": ""}, "CT", "wrong modality"),
        ({"modality": "CT"}, "MR", "wrong modality"),
        ({"unit": ""}, "CT", "Hounsfield units"),
        ({"voxels": HEAD.voxels + 1024}, "CT", "Hounsfield units"),
        ({"voxels": HEAD.voxels + 1024, "modality": "", "unit": ""}, "CT", "Hounsfield units"),
        ({"voxels": np.zeros((3, 4, 5, 3))}, "CT", "colour"),
    ],
)
def test_another_thing_is_refused(change: dict[str, Any], modality: str, check: str) -> None:
    assert verdicts(replace(HEAD, **change), modality)[check] == "refused"


@pytest.mark.parametrize(("said", "wanted"), [("PT", "PET"), ("CR", "DX"), ("MR", "MRI"), ("DX", "CR"), ("mr", "MR")])
def test_modalities_have_several_names(said: str, wanted: str) -> None:
    assert verdicts(replace(HEAD, modality=said, unit=""), wanted) == {}


def test_a_file_without_modality_or_body_part_is_noted() -> None:
    unknown = replace(HEAD, modality="", body_part="", unit="")
    assert verdicts(unknown, body_parts=("CHEST",)) == {"wrong modality": "noted", "wrong body part": "noted"}
    assert verdicts(replace(HEAD, body_part="QUADRANT 7"), body_parts=("CHEST",)) == {"wrong body part": "noted"}


@pytest.mark.parametrize(
    ("said", "wanted", "verdict"),
    [
        ("HEAD", "CHEST", "refused"),
        ("Brain", "HEAD", None),
        ("SKULL", "BRAIN", None),
        ("THORAX", "CHEST", None),
        ("51185008", "CHEST", None),
        ("T-D3000", "CHEST", None),
        ("T-D1100", "CHEST", "refused"),
        ("69536005", "CHEST", "refused"),
        ("WHOLEBODY", "CHEST", None),
        ("CHEST", "WHOLEBODY", None),
        ("CHESTABDPELVIS", "LIVER", None),
        ("CHEST_ABDOMEN", "LIVER", None),
        ("Chest, Abdomen and Pelvis", "PROSTATE", None),
        ("HEAD\\NECK", "CHEST", "refused"),
        ("NECK", "CHEST", "refused"),
        ("LSPINE", "CHEST", "refused"),
        ("PELVIS", "KNEE", "refused"),
        ("HEART", "CHEST", None),
    ],
)
def test_body_parts_by_words_and_codes(said: str, wanted: str, verdict: str | None) -> None:
    found = verdicts(replace(HEAD, body_part=said), body_parts=(wanted,))
    assert found == ({"wrong body part": verdict} if verdict else {})


def test_any_of_several_parts_will_do() -> None:
    assert verdicts(HEAD, body_parts=("CHEST", "BRAIN")) == {}


def test_codes_show_what_dicom_says_they_mean() -> None:
    """Every SNOMED CT code of pydicom's CID 4031 that is known here has the regions of its meaning's words."""
    meanings = {
        code: meaning for codes in concepts["SCT"].values() for code, (meaning, cids) in codes.items() if 4031 in cids
    }
    known = {code: regions(code) for code in meanings if regions(code)}
    assert len(known) > 80
    compared = 0
    for code, shown in known.items():
        words = regions(meanings[code])
        if words and words != EVERYWHERE:
            assert shown & words, (code, meanings[code], shown, words)
            compared += 1
    assert compared > 50


def test_the_number_of_images_must_be_the_models() -> None:
    with pytest.raises(InputError, match="takes 2 images"):
        check_expected([HEAD], modalities=("CT", "CT"), body_parts=(), channels=("CT", "PET"))
