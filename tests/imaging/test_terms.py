"""Codes of structures, against the SNOMED CT concepts of DICOM's own context groups as pydicom carries them."""

from __future__ import annotations

import colorsys

import pydicom.sr._concepts_dict as dictionary  # the only machine-readable copy of PS3.16 at hand
import pytest

from careloop.imaging.terms import ABNORMAL, PRIVATE_SCHEME, SIDES, STRUCTURE, colour_of, described, term_of
from careloop.imaging.volume import Segment

# PS3.16 has no such concept; codes are TotalSegmentator's (first line), and AAPM TG-263's as mCODE gives them (others).
ELSEWHERE = {
    "244849004", "181674001", "78333006", "75297007", "68455001", "74281007", "110765007",
    "48535007", "78247007", "25888004", "25523003", "15339008", "59558009", "24915002", "5953002", "22565002",
    "77644006", "58830002", "43993008", "65985001", "15926001",
}  # fmt: skip
SIDED = [
    "adrenal_gland",
    "autochthon",
    "brachiocephalic_vein",
    "clavicula",
    "common_carotid_artery",
    "femur",
    "gluteus_maximus",
    "gluteus_medius",
    "gluteus_minimus",
    "hip",
    "humerus",
    "iliac_artery",
    "iliac_vena",
    "iliopsoas",
    "kidney",
    "kidney_cyst",
    "lung_lower_lobe",
    "lung_upper_lobe",
    "scapula",
    "subclavian_artery",
]
SINGLE = [
    "aorta",
    "atrial_appendage_left",
    "brachiocephalic_trunk",
    "brain",
    "colon",
    "costal_cartilages",
    "duodenum",
    "esophagus",
    "gallbladder",
    "heart",
    "inferior_vena_cava",
    "liver",
    "lung_middle_lobe_right",
    "pancreas",
    "portal_vein_and_splenic_vein",
    "prostate",
    "pulmonary_vein",
    "sacrum",
    "skull",
    "small_bowel",
    "spinal_cord",
    "spleen",
    "sternum",
    "stomach",
    "superior_vena_cava",
    "thyroid_gland",
    "trachea",
    "urinary_bladder",
    "vertebrae_S1",
]
CT_TASK = [
    *(f"{name}_{side}" for name in SIDED for side in SIDES), *SINGLE,
    *(f"rib_{side}_{n}" for side in SIDES for n in range(1, 13)),
    *(f"vertebrae_{region}{n}" for region, last in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, last + 1)),
]  # fmt: skip


def _known() -> dict[str, str]:
    return {code: meaning for item in dictionary.concepts["SCT"].values() for code, (meaning, _) in item.items()}


def test_every_structure_of_the_ct_task_has_a_code_of_its_own() -> None:
    assert len(CT_TASK) == len(set(CT_TASK)) == 117
    terms = [term_of(name) for name in CT_TASK]
    assert all(term.type[0] == "SCT" for term in terms)
    assert len({(term.type[1], term.modifier, term.region) for term in terms}) == 117
    for name, term in zip(CT_TASK, terms, strict=True):
        sided = "left" in name.split("_") or "right" in name.split("_")
        assert not sided or term.modifier or "left" in term.type[2].lower() or "right" in term.type[2].lower(), name


def test_codes_are_those_of_dicom() -> None:
    known = _known()
    names = [*CT_TASK, "lung_left", "vertebrae", "brainstem", "cerebellum", "hippocampus", "parotid_gland", "fibula",
             "tibia", "patella", "radius", "ulna", "ribs", "pulmonary_artery", "heart_atrium_left", "bone", "fat",
             "heart_ventricle_right", "heart_myocardium", "lung_nodule", "liver_tumour", "brain_lesion"]  # fmt: skip
    for name in names:
        term = term_of(name)
        for scheme, value, meaning in filter(None, (term.category, term.type, term.modifier, term.region)):
            assert scheme == "SCT", name
            assert value in known or value in ELSEWHERE, name
            if value in known:
                # The first word that says something stands in both names, or begins alike (adrenal, pancreas).
                words = [w for w in meaning.lower().split() if w not in ("of", "and", "anatomical")]
                said = known[value].lower()
                assert any(word[:4] in said for word in words) or (value, meaning) in {
                    ("123037004", "Anatomical Structure"), ("108369006", "Neoplasm"),
                }, (name, meaning, said)  # fmt: skip
    assert not ELSEWHERE & set(known)


@pytest.mark.parametrize("name", ["kidney_left", "left kidney", "Kidney (left)", "LEFT-KIDNEY"])
def test_names_are_read_in_any_writing(name: str) -> None:
    assert term_of(name).type == ("SCT", "64033007", "Kidney")
    assert term_of(name).modifier == SIDES["left"]


def test_abnormalities_name_their_organ() -> None:
    term = term_of("kidney_cyst_right")
    assert (term.category, term.type[1], term.modifier) == (ABNORMAL, "367643001", SIDES["right"])
    assert term.region == ("SCT", "64033007", "Kidney")


def test_unknown_names_get_a_stable_private_code() -> None:
    short, long, other = term_of("Zyste 7"), term_of("a structure nobody has coded"), term_of("骨")
    assert short.type == (PRIVATE_SCHEME, "zyste_7", "Zyste 7")
    assert short.category == STRUCTURE
    assert len(long.type[1]) == len(other.type[1]) == 16
    assert long.type == term_of("a structure nobody has coded").type
    assert other.type[1] != term_of("血").type[1]


def test_segments_keep_what_they_say() -> None:
    given, plain = described([Segment(1, "liver", type=("X", "1", "own"), colour=(1, 2, 3)), Segment(2, "rib_left_12")])
    assert (given.type, given.category, given.colour) == (("X", "1", "own"), STRUCTURE, (1, 2, 3))
    assert (plain.type, plain.modifier) == (("SCT", "43993008", "Twelfth rib"), SIDES["left"])
    assert plain.colour == colour_of("rib_left_12")


def test_colours_are_bright_and_differ() -> None:
    colours = [colour_of(name) for name in CT_TASK]
    assert len(set(colours)) == 117
    for red, green, blue in colours:
        _, saturation, brightness = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        assert saturation > 0.5
        assert brightness > 0.7
