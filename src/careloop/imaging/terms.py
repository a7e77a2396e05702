"""SNOMED CT codes of the structures that segmentation models name, and colours to show them in."""

from __future__ import annotations

import colorsys
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from careloop.imaging.volume import Segment

Code = tuple[str, str, str]  # coding scheme, value, meaning

PRIVATE_SCHEME = "99CARELOOP"  # PS3.3 8.2: designators of private schemes begin with 99
STRUCTURE: Code = ("SCT", "123037004", "Anatomical Structure")
ABNORMAL: Code = ("SCT", "49755003", "Morphologically Abnormal Structure")
TISSUE: Code = ("SCT", "85756007", "Tissue")
SIDES: dict[str, Code] = {"left": ("SCT", "7771000", "Left"), "right": ("SCT", "24028007", "Right")}
CODE_VALUE_LENGTH = 16  # PS3.5 table 6.2-1: Code Value is a short string


@dataclass(frozen=True)
class Term:
    """What a structure is, in the codes of a DICOM segment (PS3.3 C.8.20.2): kind, type, side, and where it lies."""

    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None


def term_of(name: str) -> Term:
    """The codes of a structure by the name that models give it (`kidney_left`, `Left kidney`, `vertebrae_L1`).

    Known are TotalSegmentator's 117 structures of CT, most of those of MR, and common names of lesions and tissues;
    any other name becomes a code of the private scheme 99CARELOOP, the same for the same name. Sources: the context
    groups of DICOM PS3.16 (CID 4, 4030 and 7151 to 7166), TotalSegmentator's SNOMED mapping (Apache-2.0) and the
    mCODE value set of AAPM TG-263 names. Where TotalSegmentator's code contradicts PS3.16 (its subclavian artery is
    the right one's), PS3.16 is followed.
    """
    plain = _plain(name)
    if plain in _known():
        return _known()[plain]
    words = plain.split("_")
    sides = [word for word in words if word in SIDES]
    stem = "_".join(word for word in words if word not in SIDES)
    if len(sides) == 1 and stem in _known():
        return replace(_known()[stem], modifier=SIDES[sides[0]])
    return Term(STRUCTURE, private_code(name))


def described(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """The segments with codes and a colour where they have none; what a segment already says is kept."""
    return tuple(_described(segment) for segment in segments)


def colour_of(name: str) -> tuple[int, int, int]:
    """A bright colour (red, green, blue; 0 to 255) for a structure, always the same for the same name."""
    draw = hashlib.sha256(_plain(name).encode()).digest()
    hue = int.from_bytes(draw[:2], "big") / 65536
    saturation, brightness = 0.55 + draw[2] / 255 * 0.4, 0.75 + draw[3] / 255 * 0.25
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, brightness))
    return red, green, blue


def private_code(name: str) -> Code:
    """A code of the scheme 99CARELOOP for a name that has none elsewhere, the same for the same name."""
    plain = _plain(name)
    fits = 0 < len(plain) <= CODE_VALUE_LENGTH
    value = plain if fits else hashlib.sha256(name.encode()).hexdigest()[:CODE_VALUE_LENGTH]
    return PRIVATE_SCHEME, value, name[:64] or "unnamed"


def _described(segment: Segment) -> Segment:
    term = term_of(segment.name)
    colour = segment.colour or colour_of(segment.name)
    if segment.type is not None:
        return replace(segment, category=segment.category or STRUCTURE, colour=colour)
    coded = {"category": term.category, "type": term.type, "modifier": term.modifier, "region": term.region}
    return replace(segment, colour=colour, **coded)  # type: ignore[arg-type]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


# One structure a line: its name (several, if models differ), the SNOMED CT code, the meaning as in PS3.16.
_STRUCTURES = """
adrenal_gland suprarenal_gland | 23451007 | Adrenal gland
aorta | 15825003 | Aorta
atrial_appendage_left left_atrial_appendage | 33626005 | Left auricular appendage
atrial_appendage_right right_atrial_appendage | 68300000 | Right auricular appendage
autochthon | 244849004 | Deep muscle of back
brachiocephalic_trunk brachiocephalic_artery | 12691009 | Brachiocephalic artery
brachiocephalic_vein | 8887007 | Brachiocephalic vein
brain | 12738006 | Brain
brainstem brain_stem | 15926001 | Brain stem
cerebellum | 113305005 | Cerebellum
clavicula clavicle | 51299004 | Clavicle
colon | 71854001 | Colon
common_carotid_artery | 32062004 | Common carotid artery
costal_cartilages | 50016007 | Costal cartilage
duodenum | 38848004 | Duodenum
esophagus oesophagus | 32849002 | Esophagus
femur | 71341001 | Femur
fibula | 87342007 | Fibula
gallbladder | 28231008 | Gallbladder
gluteus_maximus | 181674001 | Gluteus maximus muscle
gluteus_medius | 78333006 | Gluteus medius muscle
gluteus_minimus | 75297007 | Gluteus minimus muscle
heart | 80891009 | Heart
heart_atrium_left left_atrium | 82471001 | Left atrium
heart_atrium_right right_atrium | 73829009 | Right atrium
heart_myocardium myocardium | 74281007 | Myocardium
heart_ventricle_left left_ventricle | 87878005 | Left ventricle of heart
heart_ventricle_right right_ventricle | 53085002 | Right ventricle of heart
hip | 29836001 | Hip
hippocampus | 5366008 | Hippocampus
humerus | 85050009 | Humerus
iliac_artery common_iliac_artery | 73634005 | Common iliac artery
iliac_vena common_iliac_vein | 46027005 | Common iliac vein
iliopsoas | 68455001 | Iliopsoas muscle
inferior_vena_cava | 64131007 | Inferior vena cava
kidney | 64033007 | Kidney
liver | 10200004 | Liver
lung lungs | 39607008 | Lung
lung_lower_lobe | 90572001 | Lower lobe of lung
lung_middle_lobe_right | 72481006 | Middle lobe of right lung
lung_upper_lobe | 45653009 | Upper lobe of lung
pancreas | 15776009 | Pancreas
parotid_gland | 45289007 | Parotid gland
patella | 64234005 | Patella
portal_vein_and_splenic_vein | 110765007 | Portal vein and splenic vein
prostate | 41216001 | Prostate
pulmonary_artery | 81040000 | Pulmonary artery
pulmonary_vein | 122972007 | Pulmonary vein
radius | 62413002 | Radius
rib ribs | 113197003 | Rib
sacrum | 54735007 | Sacrum
scapula | 79601000 | Scapula
skull | 89546000 | Skull
small_bowel small_intestine | 30315005 | Small intestine
spinal_cord | 2748008 | Spinal cord
spleen | 78961009 | Spleen
sternum | 56873002 | Sternum
stomach | 69695003 | Stomach
subclavian_artery | 36765005 | Subclavian artery
superior_vena_cava | 48345005 | Superior vena cava
thyroid_gland thyroid | 69748006 | Thyroid
tibia | 12611008 | Tibia
trachea | 44567001 | Trachea
ulna | 23416004 | Ulna
urinary_bladder bladder | 89837001 | Urinary bladder
vertebrae vertebra spine | 51282000 | Vertebra
"""

_VERTEBRAE = {
    "C": (14806007, 39976000, 113205007, 5329002, 36978003, 36054005, 87391001),
    "T": (64864005, 53733008, 1626008, 73071006, 56401006, 45296009, 62487009, 11068009, 82687006, 7610001,
          12989004, 23215003),
    "L": (66794005, 14293000, 36470004, 11994002, 49668003),
    "S": (65985001,),
}  # fmt: skip
_RIBS = {
    "First": 48535007, "Second": 78247007, "Third": 25888004, "Fourth": 25523003, "Fifth": 15339008,
    "Sixth": 59558009, "Seventh": 24915002, "Eighth": 5953002, "Ninth": 22565002, "Tenth": 77644006,
    "Eleventh": 58830002, "Twelfth": 43993008,
}  # fmt: skip
_TISSUES = {
    "bone": ("272673000", "Bone"),
    "skeletal_muscle": ("127954009", "Skeletal muscle"),
    "fat": ("55603005", "Fat"),
}
_ABNORMAL = {"cyst": ("367643001", "Cyst"), "tumor": ("108369006", "Neoplasm"), "nodule": ("27925004", "Nodule")}
_ABNORMAL |= {"tumour": _ABNORMAL["tumor"], "lesion": ("52988006", "Lesion")}
_ORGANS = (
    "brain",
    "kidney",
    "liver",
    "lung",
    "pancreas",
    "prostate",
)  # those that `<organ>_<abnormality>` is known for


@cache
def _known() -> dict[str, Term]:
    known: dict[str, Term] = {}
    for line in _STRUCTURES.strip().splitlines():
        names, value, meaning = (part.strip() for part in line.split("|"))
        known |= dict.fromkeys(names.split(), Term(STRUCTURE, ("SCT", value, meaning)))
    for region, codes in _VERTEBRAE.items():
        for number, code in enumerate(codes, start=1):
            term = Term(STRUCTURE, ("SCT", str(code), f"{region}{number} vertebra"))
            known |= dict.fromkeys((f"vertebrae_{region}{number}".lower(), f"vertebra_{region}{number}".lower()), term)
    for number, (ordinal, code) in enumerate(_RIBS.items(), start=1):
        known[f"rib_{number}"] = Term(STRUCTURE, ("SCT", str(code), f"{ordinal} rib"))
    known |= {name: Term(TISSUE, ("SCT", *coded)) for name, coded in _TISSUES.items()}
    for name, coded in _ABNORMAL.items():
        known[name] = Term(ABNORMAL, ("SCT", *coded))
        for organ in _ORGANS:
            known[f"{organ}_{name}"] = Term(ABNORMAL, ("SCT", *coded), region=known[organ].type)
    return known
