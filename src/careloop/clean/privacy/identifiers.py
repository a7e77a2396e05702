"""Rules that find names, dates, numbers and places in clinical text: English, German and Chinese forms, OCR faults."""

# ruff: noqa: E501 (a pattern is read best on one line)
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import polars as pl

# Written by scanners and word processors in place of plain ASCII; what takes no room hides names from any pattern.
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | dict.fromkeys(
    (0x00A0, 0x2007, 0x2009, 0x200A, 0x202F, 0x3000), 0x20
)
_PLAIN |= dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2212), 0x2D)
_BROKEN = re.compile(
    r"(?<=[a-zäöüß])-[ \t]*\r?\n[ \t]*(?=[a-zäöüß])|(?<=[\u4e00-\u9fff])[ \t]*\r?\n[ \t]*(?=[\u4e00-\u9fff])"
)
# Numbers in which a scanner read letters for digits.
_MISREAD = re.compile(r"(?<![A-Za-z])[OolI]*\d[\dOolI]*(?![A-Za-z])")
_AS_DIGITS = str.maketrans("OolI", "0011")
_INVISIBLE = dict.fromkeys((0x00AD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF), None)

_DAY, _MONTH, _YEAR = r"(?:[12]\d|3[01]|0?[1-9])", r"(?:1[0-2]|0?[1-9])", r"(?:(?:18|19|20)\d\d)"
MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar jänner jän", "february feb februar feber", "march mar märz mär maerz mrz", "april apr",
            "may mai", "june jun juni", "july jul juli", "august aug", "september sept sep", "october oct oktober okt",
            "november nov", "december dec dezember dez",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_MONTH_NAME = "(?:" + "|".join(sorted(MONTHS, key=len, reverse=True)) + r")(?![a-zäöü])\.?"
_CAPITAL = r"[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢĪĮİĶŁŃŇŌŐŒŘŚŞŠŢŤŪŮŰŲŹŻŽ]"
_PARTICLE = r"(?:(?:von|vom|van|de|der|den|del|della|di|da|du|la|le|zu|zur|zum|al|el|bin|ben|ibn)\s+)"
_WORD = rf"(?:[OD]['’])?(?:Mc|Mac)?{_CAPITAL}[\w'’]*(?:-[\w'’]+)*"
# A line break is a space, unless the next line begins with a label.
_SPACE = r"(?:[ \t]+|[ \t]*-?\r?\n[ \t]*(?!\w+[ \t]*:))"
_FULL_NAME = rf"(?:{_CAPITAL}\.{_SPACE}?)*{_PARTICLE}*{_WORD}(?:(?:{_SPACE}|-)(?:{_CAPITAL}\.{_SPACE}?)*{_PARTICLE}*{_WORD}){{0,2}}"
_TITLE = (
    r"(?:Dr|Prof|Professor|Mr|Mrs|Ms|Miss|Mx|Herrn?|Frau|Hr|Fr|Frl|Schwester|Pfleger|Nurse|Doctor|Doktor|Oberarzt|"
    r"Oberärztin|Chefarzt|Chefärztin|Assistenzarzt|Assistenzärztin)"
)
_DEGREES = r"(?:(?i:med|phil|rer|nat|dent|habil|Dr|Prof|univ)\b\.?\s*)*"
_LABEL = (
    r"(?:patient(?:in)?(?:[ \t]*name)?|patientenname|pat|pt|name|(?:last|first|family|given)[ \t]*name|surname|nachname|"
    r"vorname|familienname|geburtsname|signed(?:[ \t]+by)?|dictated[ \t]+by|seen[ \t]+by|gez|unterschrift|attending|"
    r"physician|referring(?:[ \t]+physician)?|hausarzt|zuweiser|next[ \t]+of[ \t]+kin|contact(?:[ \t]+person)?|"
    r"angehörige[rn]?|ansprechpartner(?:in)?|ehefrau|ehemann|wife|husband)"
)
_SURNAMES = (
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦许何吕张孔曹严华金魏陶姜谢邹苏潘葛范彭鲁韦马方任袁柳史唐薛雷贺倪汤罗郝"
    "安常于傅齐康伍余顾孟黄穆萧尹姚邵汪毛戴宋庞熊纪舒项董梁杜阮席季贾江颜郭梅林钟徐邱骆高夏蔡田樊胡凌霍万卢莫"
    "房丁邓洪包左石崔吉龚程邢裴陆荣翁段侯武刘叶黎白卓温庄柴瞿阎易廖耿匡文欧关曾向"
)
_HAN = "\u4e00-\u9fff"
_CHINESE_NAME = rf"(?:欧阳|上官|司马|诸葛|司徒|[{_SURNAMES}])(?!血[压脂糖病]|疸|规|水)(?:\s?[{_HAN}]){{1,2}}"
_NUMBERED = (
    r"(?:MRN|med(?:ical)?\.?\s*rec(?:ord)?(?:\s*(?:no|number))?|pat(?:ient(?:en)?)?[\s.-]*(?:id|nr|no|nummer|number)|"
    r"fall[\s.-]*(?:nr|nummer|no|zahl)|case[\s.-]*(?:no|number|id)|aufnahme[\s-]*(?:nr|nummer)|accession(?:\s*(?:no|number))?|"
    r"account(?:\s*(?:no|number))?|acct|versicherten?[\s-]*(?:nr|nummer)|kvnr|policy(?:\s*(?:no|number))?|ssn|"
    r"nhs(?:\s*(?:no|number))?|insurance\s*(?:no|number|id)|member\s*(?:id|no)|passport(?:\s*(?:no|number))?|"
    r"licen[sc]e\s*(?:no|number)|ausweis[\s-]*nr|ref(?:erence)?\s*(?:no|number)|auftrags?[\s-]*(?:nr|nummer)|id|"
    r"病历号|住院号|门诊号|病案号|身份证号?码?|医保号|卡号|登记号)"
)
_STREET = r"(?:straße|strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer|chaussee|steig|stieg|graben|markt)"
_ROAD = (
    r"(?:Street|St\.?|Avenue|Ave\.?|Road|Rd\.?|Lane|Ln\.?|Drive|Dr\.?|Boulevard|Blvd\.?|Court|Ct\.?|Way|Place|Pl\.?|"
    r"Terrace|Square|Highway|Hwy\.?|Parkway|Pkwy\.?|Circle|Crescent|Close)"
)
_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
)
# (tag, case matters, pattern); the group `id` is what names somebody, else the whole match.
_RULES = (
    # Dates.
    ("DATE", False, rf"(?<!\d){_YEAR}\s?([-./])\s?{_MONTH}\s?\1\s?{_DAY}(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"),
    ("DATE", False, rf"(?<![\d.,/-])(?:{_DAY}\s?([./-])\s?{_MONTH}|{_MONTH}\s?([./-])\s?{_DAY})\s?[./-]\s?(?:{_YEAR}|['’]?\d\d)(?![\d%]|[.,]\d)"),
    ("DATE", False, rf"(?<![\d.,])(?:(?:{_DAY})\.\s?{_MONTH}\.)(?=\s?(?:-|bis|und|/)\s?{_DAY}\.\s?{_MONTH}\.)"),
    ("DATE", False, rf"\b(?:am|vom|seit|bis|ab|zum|den|dem|dated|on|since|until|geb\.?|dob)[:\s]\s*(?P<id>{_DAY}\s?[./]\s?{_MONTH}\b\.?)(?![\d/]|\s?(?:mg|ml|%|h\b|x\b))"),
    ("DATE", False, rf"(?<![\d.,/-]){_DAY}(?:\.|st|nd|rd|th)?[\s-]*(?:of\s+)?{_MONTH_NAME}(?:,?[\s-]*(?:{_YEAR}|['’]\d\d|\d\d(?!\d|\s?(?:mg|ml|%|:))))?"),
    ("DATE", False, rf"\b{_MONTH_NAME}[\s-]*{_DAY}(?:st|nd|rd|th)?(?!\d|\s?(?:mg|ml|µg|%|x\b|kg|g\b))(?:,?[\s-]*{_YEAR})?"),
    ("DATE", False, rf"\b{_MONTH_NAME}(?:\s+of)?,?[\s-]+(?:{_YEAR}|['’]\d\d)(?!\d)"),
    ("DATE", False, rf"(?<![\d./-]){_MONTH}\s?[/.-]\s?(?:19|20)\d\d(?![\d%]|[.,]\d)"),
    ("DATE", False, r"(?<!\d)(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"),
    ("DATE", False, rf"(?:{_YEAR}|(?<!\d)\d\d(?=\s?年\s?{_MONTH}\s?月))\s?年\s?(?:{_MONTH}\s?月\s?(?:{_DAY}\s?[日号]?)?)?|(?<!\d){_MONTH}\s?月\s?{_DAY}\s?[日号]"),
    ("DATE", False, r"[一二〇零九][一二三四五六七八九〇零]{3}年[一二三四五六七八九十]{1,2}月(?:[一二三四五六七八九十]{1,3}[日号])?"),
    ("DATE", False, r"(?<!\d)\d ?\d? ?([./-]) ?\d ?\d? ?\1 ?\d ?\d ?\d ?\d(?!\d)|(?<!\d)\d ?\d ?\d ?\d ?([./-]) ?\d ?\d? ?\2 ?\d ?\d?(?! ?\d)"),
    # Electronic addresses, numbers.
    ("EMAIL", False, r"[\w.+-]+\s?(?:@|\(at\)|\[at\]|＠)\s?[\w-]+(?:\s?\.\s?[\w-]+)*\s?\.\s?[a-z]{2,}\b"),
    ("URL", False, r"\b(?:(?:https?|ftp)://|www\.)[^\s<>\"]*[\w/]"),
    ("PHONE", False, r"\b(?:tel|telefon(?:nummer)?|telephone|phone|ph|fax|mobile?|handy|cell|pager|call(?:ed)?|ruf(?:nummer)?|durchwahl)\b\.?\s*(?:no|nr|at)?\.?\s*[:.]?\s*(?P<id>\+?[\d(][\d\s()/.-]{3,}\d)"),
    ("PHONE", False, r"(?:电话|手机|联系电话|手机号)[号码]*\s*[::]?\s*(?P<id>\+?[\d(][\d\s()-]{5,}\d)"),
    ("PHONE", False, r"(?<![\w+])(?:\+|00)[1-9]\d{0,2}[\s()/.-]*\d(?:[\s()/.-]*\d){6,}"),
    ("PHONE", False, r"(?<![\d.,-])(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\d)"),
    ("PHONE", False, r"(?<![\d.,/-])(?:0\d{2,4}\s?[/ -]\s?\d{3,}(?:[ -]?\d{2,})*|\(0\d{2,4}\)\s?\d{3,}(?:[ -]?\d{2,})*|\d{3}-\d{4})(?![\d,]|\.\d)"),
    ("ID", False, rf"(?<![^\W_]){_NUMBERED}\b\s*(?:is|lautet)?\s*[.:#=]*\s*(?P<id>[A-Z0-9]*[./-]?\d[A-Z0-9./-]*\d\w*)"),
    ("ID", False, r"(?<!\d)\d{3}[- ]\d{2}[- ]\d{4}(?!\d)"),
    ("ID", False, r"(?<![\d.,])(?!\d{3}000(?!\d))\d{6,}[Xx]?(?![\d%]|[.,]\d)"),
    ("ID", False, r"(?<![\d.,/])\d{2,}(?:[-/]\d{2,}){2,}(?![\d%]|[.,]\d)|(?<![\d.,])\d{3,}(?: \d{3,}){2,}(?![\d%]|[.,]\d)"),
    ("ID", True, r"(?<![\w.-])(?:[A-Z]{1,4}[-/]?\d{5,}[A-Z0-9/-]*|[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){3,}(?: ?[A-Z0-9]{1,4})?)(?!\w)"),
    ("ID", False, r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b"),
    ("ID", False, r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])"),
    # Names.
    ("NAME", True, rf"\b(?i:{_TITLE})\b\.?\s*{_DEGREES}(?P<id>{_FULL_NAME})"),
    ("NAME", True, rf"\b(?i:{_LABEL})\b\.?\s*[:=]\s*{_TITLE}?\.?\s*(?P<id>{_PARTICLE}*{_WORD},{_SPACE}{_FULL_NAME}|{_FULL_NAME}|[a-zäöüß'’-]{{3,}}(?:[ \t]+[a-zäöüß'’-]{{3,}})?)"),
    ("NAME", True, rf"\b(?i:patient(?:in)?|pat\.|pt\.){_SPACE}(?P<id>{_PARTICLE}*{_WORD},?{_SPACE}{_FULL_NAME})"),
    ("NAME", True, rf"\b(?i:signed|dictated|seen|reviewed|ordered){_SPACE}by{_SPACE}(?:{_TITLE}\b\.?\s*{_DEGREES})?(?P<id>{_FULL_NAME})|\bgez\.?\s*:?\s*(?:{_TITLE}\b\.?\s*{_DEGREES})?(?P<id2>{_FULL_NAME})"),
    ("NAME", True, rf"\b(?:daughter|son|wife|husband|mother|father|sister|brother|niece|nephew|partner|spouse|caregiver|friend)(?:,|{_SPACE}named)?{_SPACE}(?P<id>{_FULL_NAME})"),
    ("NAME", True, rf"\b(?:Tochter|Sohn|Ehefrau|Ehemann|Lebensgefährtin|Lebensgefährte|Enkelin|Enkel|Nichte|Neffe|Betreuerin|Betreuer),?{_SPACE}(?P<id>{_FULL_NAME})(?=,?\s+(?:gibt|gab|berichte|sagt|ist|sei|wurde|wird|informiert|ruft|rief|telefon|anwesend|kommt|wünscht))"),
    ("NAME", True, rf"(?<!\w)(?P<id>{_WORD}{_SPACE}{_PARTICLE}*{_WORD})(?=\s+(?i:was (?:admitted|seen|discharged|born|referred|transferred)|is an? \d|presents?\b|presented|reports?\b|denie[sd]|complain|underwent|returns?\b|berichtet|klagt|gibt an|stellt(?:e)? sich|kommt zur|kam zur))"),
    ("NAME", True, rf"(?<!\w)(?P<id>{_WORD}(?:{_SPACE}{_PARTICLE}*{_WORD}){{0,2}}),?{_SPACE}(?:MD|M\.D\.|RN|DO|PhD|FRCP|Dipl\.|Facharzt|Fachärztin)\b"),
    ("NAME", False, rf"(?P<id>{_CHINESE_NAME})(?=先生|女士|小姐|医生|大夫|医师|主任|护士|教授|同志|老师)"),
    ("NAME", False, rf"(?:姓名|联系人|医师|医生|签名|签字|记录者|家属|患者姓名|主诊)\s*[::]\s*(?P<id>[{_HAN}](?:\s?[{_HAN}]){{1,3}}(?![{_HAN}]))"),
    ("NAME", False, rf"(?:患者|病人)\s*[::,,]?\s*(?P<id>{_CHINESE_NAME})(?=[,,。;;\s男女((、,]|$)"),
    ("NAME", False, rf"(?P<id>(?:[{_SURNAMES}])某某?)"),
    # Places.
    ("PLACE", True, rf"\b{_CAPITAL}[\wäöüß.-]*(?: {_CAPITAL}[\wäöüß-]*){{0,2}}(?i:{_STREET})\s*\d+\s?[a-z]?\b"),
    ("PLACE", True, rf"\b(?i:Am|An der|Auf der|Im|In der|Zum|Zur)\s{_CAPITAL}[\wäöüß-]+\s\d{{1,3}}[a-z]?\b(?=,?\s*(?:D-)?\d{{5}})"),
    ("PLACE", True, rf"\b\d{{1,5}}\s+(?:[NSEW]\.?\s+)?(?:{_CAPITAL}[\w.'’-]*\s+){{1,3}}{_ROAD}(?:,?\s+(?:Apt|Suite|Unit|#)\.?\s*\w+)?(?!\w)"),
    ("PLACE", False, r"\b\d{1,5}\s+(?:[nsew]\.?\s+)?[a-z'’-]+(?:\s+[a-z'’-]+)?\s+(?:street|st\.|avenue|ave\.|road|rd\.|lane|ln\.|drive|boulevard|blvd\.?|highway|parkway|terrace)(?!\w)"),
    ("PLACE", True, rf"\b(?:D-|A-|CH-)?\d{{4,5}}\s+(?:(?:Bad|Sankt|St\.|Markt|Neu|Alt|Groß|Klein)\s)?{_CAPITAL}[\wäöüß-]+(?:\s(?:am|an der|bei|im|ob der)\s{_CAPITAL}[\wäöüß-]+)?"),
    ("PLACE", True, rf"\b{_CAPITAL}[\w'’-]+(?:\s{_CAPITAL}[\w'’-]+)?,\s*[A-Z]{{2}}\s+\d{{5}}(?:-\d{{4}})?\b"),
    ("PLACE", True, rf"\b(?:lives in|living in|resides in|resident of|born in|moved (?:from|to)|wohnhaft in|wohnt in|geboren in|aus)\s+(?P<id>{_CAPITAL}[\w'’-]+(?:[ -]{_CAPITAL}[\w'’-]+)?)"),
    ("PLACE", True, rf"\b(?:(?:St\.?|Saint|Sankt)\s)?{_CAPITAL}[\w'’.-]+(?:\s{_CAPITAL}[\w'’.-]+){{0,2}}\s(?:Hospital|Clinic|Medical Cent(?:er|re)|Infirmary|Health Cent(?:er|re)|Nursing Home|Hospice)\b"),
    ("PLACE", True, rf"\b(?:(?:Universitäts|Kreis|Stadt|Bezirks|Herz|Reha)?-?[Kk]lini(?:kum|k)|[A-Z]?[\wäöü]*[Kk]rankenhaus|Pflegeheim|Seniorenheim|Hospiz)\s(?:(?:St\.|Sankt|am|der|in)\s)?{_CAPITAL}[\wäöüß.-]+(?:\s{_CAPITAL}[\wäöüß-]+)?"),
    ("PLACE", False, r"\b[a-zäöüß-]{3,}(?:straße|strasse|str\.|weg|platz|allee|gasse)\s*\d+\s?[a-z]?\b(?:,?\s+(?:D-)?\d{5}\s+(?:bad\s)?[a-zäöüß-]+)?"),
    ("PLACE", False, rf"\b[a-z'’.-]+(?:\s[a-z'’-]+)?,\s*(?:{_STATES})\s+\d{{5}}(?:-\d{{4}})?\b"),
    ("PLACE", False, rf"[{_HAN}]{{2,8}}(?:医院|卫生院|诊所)|(?:[{_HAN}]{{2,7}}(?:省|自治区|市|区|县|镇|乡|街道|路|街|巷|弄|小区|村)\s?){{2,}}(?:\d+\s?(?:号|弄|栋|幢|室|单元)?)*|(?:住址|地址|籍贯|现住)\s*[::]\s*[^\s,,。;;]+"),
    # Ages over 89.
    ("AGE", False, r"\b(?:9\d|1[0-2]\d)(?=[\s-]*(?:years?|yrs?|yo\b|y/o|y\.o\.|jahre|jährige?[rnms]?|j\.|a\b))"),
    ("AGE", False, r"\b(?:aged?|alter|age of|im alter von)[:\s]+(?P<id>(?:9\d|1[0-2]\d))(?![\d.,/%])|(?P<id2>(?:9\d|1[0-2]\d))\s?(?=岁)"),
)  # fmt: skip
_COMPILED = tuple((tag, re.compile(pattern, 0 if cased else re.IGNORECASE)) for tag, cased, pattern in _RULES)
_NUMBERS = {"ID", "PHONE"}
_LOWER_TITLE = re.compile(
    rf"\b(?i:{_TITLE})\b\.?\s*{_DEGREES}(?P<id>[a-zäöüßéè'’-]{{2,}})(?:\s+(?P<next>[a-zäöüßéè'’-]{{2,}}))?"
)
_GIVEN = re.compile(
    rf"(?<![\w-])(?P<given>[^\W\d_]{{3,}})(?:-{_CAPITAL}\w+)?(?P<rest>(?:{_SPACE}(?:{_CAPITAL}\.{_SPACE}?)*{_PARTICLE}*{_WORD})?)(?![\w])"
)
_WIDE = re.compile(
    r"(?<![A-Za-z0-9])(?:[^\W_][,.:'’-]? ){3,}[^\W_](?![A-Za-z0-9])|(?<![^\s:(])(?=\S(?: \S)*? [\d@])(?:[^\s,;] ){4,}[^\s,;](?!\w)"
)
_HEADINGS = frozenset([
    "diagnosen", "diagnose", "anamnese", "befund", "befunde", "therapie", "beurteilung", "epikrise", "medikation",
    "procedere", "labor", "verlauf", "diagnosis", "diagnoses", "history", "assessment", "plan", "medications",
    "findings", "impression", "summary", "results", "recommendation",
])  # fmt: skip
_REVERSED = re.compile(rf"(?<!\w)(?P<id>{_PARTICLE}*{_WORD}),{_SPACE}(?P<given>[^\W\d_]{{3,}})(?!\w)")
# What follows a title in lower case without being a name.
_PARTICLES = frozenset([
    "von", "vom", "van", "de", "der", "den", "del", "della", "di", "da", "du", "la", "le", "zu", "zur", "zum", "al",
    "el", "bin", "ben", "ibn",
])  # fmt: skip
_NO_NAMES = frozenset([
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "had", "has", "have", "he", "her", "his", "i", "in",
    "is", "it", "no", "not", "of", "on", "or", "patient", "said", "saw", "says", "she", "the", "to", "was", "were",
    "will", "with", "who", "am", "auf", "aus", "bei", "das", "dass", "dem", "den", "der", "des", "die", "ein", "eine",
    "er", "es", "hat", "hatte", "ich", "ihr", "im", "ist", "kam", "mit", "nach", "oder", "sagt", "seit", "sie",
    "sind", "und", "vom", "von", "war", "wird", "wurde", "zu", "zum", "zur", "appointment", "visit", "visits",
    "advised", "ordered", "reviewed", "notes", "note", "office", "clinic", "klagt", "berichtet", "gibt", "stellt",
    "kommt", "wünscht", "möchte", "ebenfalls", "med", "phil", "rer", "nat", "dent", "habil", "univ",
])  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A part of a text, `[start, end)` in characters, that names somebody or something of theirs."""

    start: int
    end: int
    tag: str


def plain(text: str) -> str:
    """The text with full-width forms, special spaces and dashes as ASCII, without hyphenation or invisible signs."""
    return _BROKEN.sub("", text.translate(_INVISIBLE).translate(_PLAIN))


def find_identifiers(text: str, *, numbers: bool = True) -> Iterator[Found]:
    """Yield what the rules find in a text that is `plain`, overlapping parts too; `numbers`: phone and other numbers."""
    probe = _MISREAD.sub(lambda match: match[0].translate(_AS_DIGITS), text)
    if probe in (probe.lower(), probe.upper()):
        probe = _capitalised(probe)
    for tag, pattern in _COMPILED:
        if tag in _NUMBERS and not numbers:
            continue
        for match in pattern.finditer(probe):
            groups = match.groupdict()
            name = next((group for group in ("id", "id2") if groups.get(group)), 0)
            yield Found(*match.span(name), tag)
    yield from _names(probe)


def looks_identifying(texts: pl.Series, *, numbers: bool = True) -> pl.Series:
    """True for each text in which a rule finds something; false for null."""
    distinct = texts.drop_nulls().unique()
    named = {text: any(True for _ in find_identifiers(plain(text), numbers=numbers)) for text in distinct}
    return pl.Series(texts.name, [named.get(text, False) for text in texts], dtype=pl.Boolean())


def _capitalised(text: str) -> str:
    """A text in one case with a capital for every word that may be a name; of the same length."""

    def word(match: re.Match[str]) -> str:
        lower = match[0].lower()
        if len(lower) != len(match[0]):
            return match[0]
        is_name = lower not in _NO_NAMES and lower not in _PARTICLES and lower not in MONTHS
        return lower[0].upper() + lower[1:] if is_name and len(lower[0].upper()) == 1 else lower

    return re.sub(r"[^\W\d_]+", word, text)


def _names(text: str) -> Iterator[Found]:
    """Names after a title in lower case, common given names with what follows or precedes them, and wide letters."""
    given = _given_names()
    for match in _LOWER_TITLE.finditer(text):
        if match["id"] in _NO_NAMES:
            continue
        after = match["next"] is not None and match["next"] not in _NO_NAMES and match["id"] in given
        yield Found(match.start("id"), match.end("next") if after else match.end("id"), "NAME")
    for match in _REVERSED.finditer(text):
        if match["given"].lower() in given:
            yield Found(match.start(), match.end(), "NAME")
    for match in _GIVEN.finditer(text):
        if match["given"].lower() in given and match["given"][0].isupper():
            yield Found(match.start(), match.end(), "NAME")
    for match in _WIDE.finditer(text):
        letters = match[0].replace(" ", "")
        if letters.lower() not in _HEADINGS:
            yield Found(match.start(), match.end(), "NAME" if letters.isalpha() else "ID")


@cache
def _given_names() -> frozenset[str]:
    """Common given names in lower case, without those that are also words of clinical notes."""
    text = Path(__file__).with_name("given_names.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(name for line in lines for name in line.split())
