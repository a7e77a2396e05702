"""Simulated clinical notes with planted identifiers, and what of them is left after scrubbing."""

# ruff: noqa: E501 (a note is read best on one line)
from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

FIRST = (
    "Margarete", "Wolfram", "Sieglinde", "Thomas", "Renate", "Anneke", "Detlef", "Claudia", "Yannick", "Zdenka", "Emily", "Horace",
    "Priya", "Dwayne", "Siobhan", "Michael", "Latoya", "Guillermo", "Kwame", "Barbara", "Bjarne", "Nguyet", "Oluwaseun", "Karen",
)  # fmt: skip
LAST = (
    "Brandstetter", "Kowalczyk", "Ostermann", "Winkler", "von der Marwitz", "Öztürk", "Schäfer-Lüdecke", "Haberkorn", "Groß", "Nowak",
    "Fitzgerald", "O'Donnell", "Abernathy", "Castellanos", "MacLeod", "Featherstonehaugh", "Okonkwo", "Pham", "Lindqvist", "Washburn",
)  # fmt: skip
HAN = ("张伟", "王秀英", "李建国", "刘洋", "陈淑芬", "欧阳明", "赵子轩", "黄丽华", "周杰", "吴桂兰")
CITIES_DE = ("Tübingen", "Recklinghausen", "Bad Homburg", "Görlitz", "Hildesheim")
CITIES_EN = ("Springfield", "Chattanooga", "Santa Rosa", "Duluth", "Wilkes-Barre")
STREETS_DE = ("Lindenstraße 14", "Am Mühlbach 3a", "Goethestr. 118", "Kastanienallee 7", "Bismarckplatz 22")
STREETS_EN = ("1417 Maple Avenue", "22 Old Mill Road", "908 W. Harrison St.", "5 Primrose Lane", "310 Kings Highway")
STREETS_HAN = ("上海市浦东新区世纪大道100号", "北京市海淀区中关村南路8号", "广州市天河区体育西路31号")
MONTHS_DE = ("Januar", "März", "Mai", "Juli", "Oktober", "Dezember")
MONTHS_EN = ("January", "March", "May", "July", "October", "December")

# `{kind}` is planted, all else is clinical text that should stay.
ENGLISH = (
    "Mr. {name} is a 64 year old man with type 2 diabetes seen on {date} for follow-up. MRN {mrn}. BP 132/84, HbA1c 7.9 %.",
    "{name} was admitted on {date} with chest pain; troponin 0.04 ng/mL, ECG without ST elevation. Attending: {name}.",
    "Patient lives at {street}, {city_zip}. Phone {phone}, e-mail {email}. Takes metformin 500 mg twice daily.",
    "Seen with her daughter {first} on {date}. Creatinine 1.3 mg/dL, eGFR 58. Plan: repeat labs in 2 weeks.",
    "Discharge summary. Patient name: {name_reversed}. DOB: {date}. Account number {mrn}. Diagnosis: NSTEMI, T2 N1 M0 colon cancer.",
    "Discussed with Dr. {last} from Cardiology, who agrees. Last echo {date_words}: EF 45 %. SSN {ssn}.",
    "Mrs. {last} called from {phone} asking for a refill. The {old} year old has no new complaints. Strength 5/5, reflexes 2+.",
    "Signed by {name}, MD, {date_words}. WBC 11.2, Hb 9.8 g/dL, platelets 250000. Next visit in 3 months.",
)
GERMAN = (
    "Herr {name}, geb. {date}, stellte sich am {date} mit Thoraxschmerzen vor. Troponin 0,04 ng/ml, RR 132/84 mmHg.",
    "Wir berichten über Frau {name}, wohnhaft {street}, {city_zip}. Diagnosen: Hypertonie, Diabetes mellitus Typ 2.",
    "Patientin {name_reversed}, Fallnummer {mrn}, Telefon {phone}. Medikation: Ramipril 5 mg 1-0-0, Metformin 500 mg 1-0-1.",
    "Aufnahme am {date_words} über die Notaufnahme. Kreatinin 1,3 mg/dl, Kalium 4,1 mmol/l. Rücksprache mit OA Dr. {last}.",
    "{name} berichtet über zunehmende Atemnot seit 3 Wochen. Entlassung am {date}. E-Mail: {email}.",
    "Hausarzt: Dr. med. {name}, {city_zip}. EF 45 %, keine Wandbewegungsstörungen. Kontrolle in 6 Monaten.",
    "Die Tochter {first} gibt an, die {old}-jährige Mutter sei gestürzt. Versichertennummer {kvnr}. GCS 15.",
    "Befund vom {date}: Rundherd 12 mm im rechten Oberlappen. gez.: {name}",
)
CHINESE = (
    "患者{han},男,64岁,因胸痛3小时于{date_han}入院。住院号:{mrn}。血压132/84mmHg,肌钙蛋白0.04ng/mL。",
    "姓名:{han} 住址:{street_han} 电话:{mobile}。高血压病史10年,口服氨氯地平5mg每日一次。",
    "{han}医生查房,{date_han}复查血钾4.1mmol/L。身份证号{idcard}。",
    "{han}女士诉头晕,血糖7.9mmol/L。联系人:{han},电话{mobile}。",
)
# Written after the rules and never used to make them better: names without a title, as notes really have them.
HELD_OUT_ENGLISH = (
    "{last} reports worsening dyspnea since the visit of {date_words}. Lungs clear, sats 96 % on room air.",
    "Pt known to {last} and {last}, transferred from an outside facility; chart no. {mrn}. K 3.1, Mg 1.7.",
    "Spoke w/ {first} ({phone}), the patient's neighbour, about home oxygen. Discharge planned {date}.",
    "CT abdomen {date}: no free fluid. Compared with study of {date}. Read by {name} at 14:20.",
    "Born {date} in {city_zip}. Retired teacher, {old} yo, lives alone at {street}. Ambulates with a walker.",
    "cc: {name}, {name}, {street}, {city_zip}",
)
HELD_OUT_GERMAN = (
    "Der Patient wurde am {date} durch Kollegin {last} übernommen. Labor: CRP 112 mg/l, Leukozyten 14,2/nl.",
    "{last} klagte bei Visite über Schmerzen, Novalgin 500 mg erhalten. Nächste Kontrolle {date}.",
    "Rücksprache mit {name} (Tel. {phone}) erfolgt, OP-Termin {date_words}. Thrombozyten 187/nl.",
    "Name/Vorname: {name_reversed}; Geburtsdatum: {date}; Wohnort: {city_zip}; Station 4B, Zimmer 12.",
    "Die Betreuung durch {first} {last} ist gesichert, Adresse {street}. Barthel-Index 85.",
    "Verteiler: {name}, {street}, {city_zip}; Patientenakte.",
)
HELD_OUT_CHINESE = (
    "{han}今日诉腹痛减轻,{date_han}手术,术后恢复良好。体温36.8℃。",
    "由{han}主任主刀,家属{han}({mobile})已签字。白细胞11.2×10^9/L。",
    "主管医生:{han};床号12;病历号{mrn};复诊日期{date_han}。",
)


@dataclass(frozen=True)
class Piece:
    """A part of a note; `kind` is None for clinical text, else what is planted."""

    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Note:
    """A note as pieces, and what structured data would know: the first name in the note, numbers and phones."""

    pieces: tuple[Piece, ...]
    known: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def simulated_notes(count: int, seed: int = 0) -> list[Note]:
    """`count` notes like those that the rules were made with, a third in each language, with other identifiers each."""
    return _notes(count, seed, ((ENGLISH, "en"), (GERMAN, "de"), (CHINESE, "zh")))


def held_out_notes(count: int, seed: int = 0) -> list[Note]:
    """`count` notes unlike those that the rules were made with."""
    return _notes(count, seed, ((HELD_OUT_ENGLISH, "en"), (HELD_OUT_GERMAN, "de"), (HELD_OUT_CHINESE, "zh")))


def notes_by_hand() -> list[Note]:
    """The notes of hand_notes.txt: whole documents, as unlike the templates above as their writer could make them."""
    text = Path(__file__).with_name("hand_notes.txt").read_text(encoding="utf-8")
    content = "\n".join(line for line in text.split("\n") if not line.startswith("# "))
    return [_marked(note.strip()) for note in content.split("\n---\n")]


def _marked(text: str) -> Note:
    """`<TAG:words>` as planted parts."""
    parts = re.split(r"<([A-Z]+):([^>]*)>", text)
    clinical = [Piece(part) for part in parts[::3]]
    planted = [Piece(words, tag) for tag, words in zip(parts[1::3], parts[2::3], strict=True)]
    mixed = [piece for pair in zip(clinical, planted, strict=False) for piece in pair] + clinical[-1:]
    return Note(tuple(piece for piece in mixed if piece.text), ())


def _notes(count: int, seed: int, families: tuple[tuple[tuple[str, ...], str], ...]) -> list[Note]:
    chance = random.Random(seed)
    return [_note(chance, *families[number % 3], number // 3) for number in range(count)]


def changed(note: Note, change: Callable[[str], str], *, everywhere: str = "") -> Note:
    """The note with its planted parts changed; the clinical text too if `everywhere`."""
    return replace(
        note, pieces=tuple(replace(p, text=change(p.text)) if p.kind or everywhere else p for p in note.pieces)
    )


def leaks(note: Note, scrubbed: str) -> Iterator[tuple[str, bool]]:
    """For each planted part its kind, and whether a word of it is left."""
    left = Counter(_words(scrubbed)) - Counter(_words("".join(f"{p.text}|" for p in note.pieces if p.kind is None)))
    for piece in note.pieces:
        if piece.kind is not None:
            yield piece.kind, any(left[word] for word in _words(piece.text))


def kept_share(note: Note, scrubbed: str) -> tuple[int, int]:
    """How many words of the clinical text there are, and how many are still there."""
    clinical = Counter(_words("".join(f"{p.text}|" for p in note.pieces if p.kind is None)))
    return clinical.total(), (clinical & Counter(_words(re.sub(r"\[[A-Z]+\]", "|", scrubbed)))).total()


def spaced(text: str) -> str:
    """As a scanner reads wide letters: a space after each."""
    return " ".join(text.replace(" ", ""))


def broken(text: str) -> str:
    """A line break in place of the first space, or with a hyphen in the middle of a word; numbers are not broken."""
    if " " in text or not text.isalpha():
        return text.replace(" ", "\n", 1)
    half = len(text) // 2
    return f"{text[:half]}{'-' if text[0] < '一' else ''}\n{text[half:]}"


def misread(text: str) -> str:
    """Zeros as letters, and full-width digits."""
    return text.replace("0", "O").replace("2", "\uff12")


def _words(text: str) -> list[str]:
    return re.findall(r"\d+|[^\W\d_一-鿿]+|[一-鿿]", text)


def _note(chance: random.Random, templates: tuple[str, ...], language: str, number: int) -> Note:
    patient = _person(chance)
    pieces, used = [], []
    for part in re.split(r"(\{\w+\})", templates[number % len(templates)]):
        if not part.startswith("{"):
            pieces.append(Piece(part))
            continue
        kind = part[1:-1]
        value = _value(chance, kind, language, patient if not used else _person(chance))
        used += [kind] if kind in {"name", "name_reversed", "last", "han"} else []
        pieces.append(Piece(value, _KINDS[kind]))
    own = [p.text for p in pieces if p.kind == "NAME"][:1]
    known = (*own, *(p.text for p in pieces if p.kind in {"ID", "PHONE"}))
    return Note(tuple(p for p in pieces if p.text), known)


def _person(chance: random.Random) -> tuple[str, str]:
    return chance.choice(FIRST), chance.choice(LAST)


_KINDS = {
    "name": "NAME", "name_reversed": "NAME", "first": "NAME", "last": "NAME", "han": "NAME", "date": "DATE", "date_words": "DATE",
    "date_han": "DATE", "mrn": "ID", "ssn": "ID", "kvnr": "ID", "idcard": "ID", "phone": "PHONE", "mobile": "PHONE",
    "email": "EMAIL", "street": "PLACE", "street_han": "PLACE", "city_zip": "PLACE", "old": "AGE",
}  # fmt: skip


def _value(chance: random.Random, kind: str, language: str, person: tuple[str, str]) -> str:
    first, last = person
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1935, 2024)
    digits = lambda n: "".join(chance.choice("0123456789") for _ in range(n))  # noqa: E731
    german = language == "de"
    words = (f"{day}. {chance.choice(MONTHS_DE)} {year}",) if german else (
        f"{chance.choice(MONTHS_EN)} {day}, {year}", f"{day} {chance.choice(MONTHS_EN)} {year}", f"{chance.choice(MONTHS_EN)[:3]} {day}",
    )  # fmt: skip
    numeric = (f"{day:02}.{month:02}.{year}", f"{day}.{month}.{year % 100:02}") if german else (
        f"{month}/{day}/{year}", f"{month:02}/{day:02}/{year % 100:02}", f"{year}-{month:02}-{day:02}",
    )  # fmt: skip
    cities = CITIES_DE if german else CITIES_EN
    zips = (
        f"{chance.randint(10_000, 99_999)} {chance.choice(cities)}"
        if german
        else f"{chance.choice(cities)}, {chance.choice(('IL', 'TN', 'PA'))} {digits(5)}"
    )
    phones = (
        f"0{chance.randint(30, 999)} {digits(7)}",
        f"0{chance.randint(30, 999)}/{digits(6)}",
        f"+49 {chance.randint(30, 999)} {digits(7)}",
    )
    if not german:
        phones = (
            f"({digits(3)}) {digits(3)}-{digits(4)}",
            f"{digits(3)}-{digits(3)}-{digits(4)}",
            f"+1 {digits(3)} {digits(3)} {digits(4)}",
        )
    return {
        "name": lambda: f"{first} {last}",
        "name_reversed": lambda: f"{last}, {first}",
        "first": lambda: first,
        "last": lambda: last,
        "han": lambda: chance.choice(HAN),
        "date": lambda: chance.choice(numeric),
        "date_words": lambda: chance.choice(words),
        "date_han": lambda: f"{year}年{month}月{day}日",
        "mrn": lambda: chance.choice((digits(7), f"{digits(3)}-{digits(4)}", f"K{digits(6)}")),
        "ssn": lambda: f"{digits(3)}-{digits(2)}-{digits(4)}",
        "kvnr": lambda: f"{chance.choice('ABCKX')}{digits(9)}",
        "idcard": lambda: f"{digits(17)}X",
        "phone": lambda: chance.choice(phones),
        "mobile": lambda: f"1{chance.choice('3578')}{digits(9)}",
        "email": lambda: (
            f"{first.lower()}.{last.split()[-1].lower().replace(chr(39), '')}@{chance.choice(('web', 'mail', 'gmx'))}.{'de' if german else 'com'}"
        ),
        "street": lambda: chance.choice(STREETS_DE if german else STREETS_EN),
        "street_han": lambda: chance.choice(STREETS_HAN),
        "city_zip": lambda: zips,
        "old": lambda: str(chance.randint(90, 104)),
    }[kind]()
