"""Free text with names, dates, numbers and places replaced by tags: rules, the patient's own identifiers, a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from careloop import InputError
from careloop.clean.privacy.identifiers import MONTHS, Found, find_identifiers, plain
from careloop.clean.privacy.words import find_rare_words

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

WARNING = (
    "Scrubbed by rules{model}: names that no rule, no list and no model knows stay in the text. This alone is not Safe "
    "Harbor de-identification; let people read a sample before any text is shared."
)
# presidio's entities as tags; what is not named here is an identifying number of some kind.
_TAGS = {
    "PERSON": "NAME", "DATE_TIME": "DATE", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "URL": "URL",
    "LOCATION": "PLACE", "GPE": "PLACE", "ORGANIZATION": "PLACE", "AGE": "AGE",
    **{tag: tag for tag in ("NAME", "DATE", "PHONE", "EMAIL", "PLACE", "ID")},
}  # fmt: skip
# A model's "3 days" and "daily" are no dates of the calendar; ages and intervals stay, as Safe Harbor lets them.
_CALENDAR = re.compile(rf"\d[/.-]\d|(?:18|19|20)\d\d|\b(?i:{'|'.join(MONTHS)})\b|[年月日]")
_IGNORED = {"NRP", "CARDINAL", "ORDINAL", "QUANTITY", "PERCENT", "MONEY"}
# Of overlapping parts of equal length the first of these names the whole.
_PRIORITY = ("EMAIL", "URL", "NAME", "DATE", "PHONE", "ID", "PLACE", "AGE")
# presidio scores patterns without check digit or context 0.01 to 0.3: five-digit zip codes, any nine digits.
_LEAST_SCORE = 0.4
_SHORTEST_WORD = 2
_SHORTEST_NUMBER = 4  # a shorter number as identifier would take every such number out of the text
_FOLDED = {
    "ä": "(?:ä|ae|a)",
    "ö": "(?:ö|oe|o)",
    "ü": "(?:ü|ue|u)",
    "ß": "(?:ß|ss)",
    "é": "[ée]",
    "è": "[èe]",
    "á": "[áa]",
}


_MONTH_STYLES = tuple(
    names.split()
    for names in (
        "january february march april may june july august september october november december",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "jan feb mär apr mai jun jul aug sep okt nov dez",
    )
)


class ScrubSettings(BaseModel):
    """How free text is scrubbed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dates: Literal["tagged", "shifted"] = Field(
        default="tagged",
        description="shifted: full dates move by the patient's shift where it is given, others become [DATE].",
    )
    model: Path | None = Field(
        default=None,
        description="Folder of a spaCy pipeline or a Transformers token classifier that finds names, already on disk.",
    )


@dataclass(frozen=True)
class Scrubbed:
    """The texts with tags for what was found, how many of each tag, and what must be said wherever they go."""

    texts: pl.Series
    found: dict[str, int]
    warning: str


def scrub(
    texts: pl.Series,
    *,
    known: Sequence[str] | pl.Series = (),
    shift_days: pl.Series | None = None,
    settings: ScrubSettings | None = None,
) -> Scrubbed:
    """Replace what names somebody in each text by a tag in brackets; null stays null.

    Tags are NAME, DATE, ID, PHONE, EMAIL, URL, PLACE, AGE for ages over 89, and WORD for a word that few patients have.

    `known` are names and numbers of the patient, for all texts, or a series with a list of them for each text: the
    strongest hint there is, found also with line breaks, spaces between letters, in any case. `shift_days` moves full
    dates. Nothing is fetched from anywhere.

    Raises:
        InputError: presidio is not installed, or `settings.model` is no model folder.
    """
    return Scrubber(settings or ScrubSettings()).scrub(texts, known=known, shift_days=shift_days)


@dataclass(frozen=True)
class Scrubber:
    """A scrubber that keeps its rules and model loaded between calls."""

    settings: ScrubSettings = field(default_factory=ScrubSettings)
    common_words: frozenset[str] | None = None  # any other word is tagged (careloop.clean.privacy.words); None: none is

    def scrub(
        self, texts: pl.Series, *, known: Sequence[str] | pl.Series = (), shift_days: pl.Series | None = None
    ) -> Scrubbed:
        """As the function `scrub`."""
        per_text = known.to_list() if isinstance(known, pl.Series) and known.dtype == pl.List else None
        everywhere = known_pattern([] if per_text is not None else known)
        counts: Counter[str] = Counter()
        result: list[str | None] = []
        for place, text in enumerate(texts):
            if text is None:
                result.append(None)
                continue
            pattern = everywhere if per_text is None else known_pattern(per_text[place] or [])
            days = None if shift_days is None or self.settings.dates == "tagged" else shift_days[place]
            result.append(self._scrubbed(text, pattern, days, counts))
        model = "" if self.settings.model is None else " and a model"
        scrubbed = pl.Series(texts.name, result, dtype=pl.String())
        return Scrubbed(scrubbed, dict(sorted(counts.items())), WARNING.format(model=model))

    def _scrubbed(self, text: str, known: re.Pattern[str] | None, days: int | None, counts: Counter[str]) -> str:
        text = plain(text)
        parts = [*find_identifiers(text), *self._analysed(text)]
        if known is not None:
            parts += [
                Found(*match.span(), "ID" if match[0].strip().isdigit() else "NAME") for match in known.finditer(text)
            ]
        done, pieces = 0, []
        parts = list(_merged(parts))
        if self.common_words is not None:
            parts = _with_rare_words(parts, text, self.common_words)
        for part in parts:
            shifted = shifted_date(text[part.start : part.end], days) if part.tag == "DATE" and days else None
            pieces += [text[done : part.start], shifted or f"[{part.tag}]"]
            counts[part.tag] += 1
            done = part.end
        return "".join([*pieces, text[done:]])

    def _analysed(self, text: str) -> Iterator[Found]:
        for result in self._engine.analyze(text, language="en", score_threshold=_LEAST_SCORE):
            tag = _TAGS.get(result.entity_type, "ID")
            is_span = tag == "DATE" and not _CALENDAR.search(text, result.start, result.end)
            if result.entity_type not in _IGNORED and not is_span:
                yield Found(result.start, result.end, tag)

    @cached_property
    def _engine(self) -> AnalyzerEngine:
        return _analyzer(self.settings.model)


def known_pattern(known: Iterable[str]) -> re.Pattern[str] | None:
    """The pattern of a patient's own names and numbers; each word of a name counts.

    Letters may have spaces, hyphens or line breaks between them (words of four letters or more), umlauts may be written
    out; two and three letters count only as they are written, as a word.
    """
    whole = {plain(value).strip() for value in known if value}
    words = whole | {word for value in whole for word in re.split(r"[\s,;]+", value)}
    patterns = [pattern for word in sorted(words, key=lambda word: (-len(word), word)) if (pattern := _loose(word))]
    return re.compile("|".join(patterns)) if patterns else None


def _loose(word: str) -> str | None:
    letters = [letter for letter in word if not letter.isspace()]
    is_han = bool(letters) and all("\u4e00" <= letter <= "\u9fff" for letter in letters)
    if len(letters) < (_SHORTEST_NUMBER if word.isdigit() else _SHORTEST_WORD):
        return None
    if is_han:
        return r"\s?".join(letters)
    if len(letters) < 4:
        return rf"(?<!\w){re.escape(word)}(?!\w)"
    inner = r"[ \t]?(?:-?\r?\n[ \t]*)?".join(_FOLDED.get(letter.lower(), re.escape(letter)) for letter in letters)
    return rf"(?<!\w)(?i:{inner})(?:['’]?s)?(?!\w)"


def shifted_date(text: str, days: int) -> str | None:
    """The date moved by so many days, written in the same form; None where it is no full date of one clear form."""
    for form in _FORMS:
        match = form.fullmatch(text.strip())
        if match is None:
            continue
        month = match["month"]
        number = int(month) if month.isdigit() else MONTHS.get(month.lower().rstrip("."))
        try:
            moved = date(int(match["year"]), number or 0, int(match["day"])) + timedelta(days=days)
        except (ValueError, OverflowError):
            return None
        written = {"year": f"{moved.year:04}", "day": _as_wide(match["day"], moved.day)}
        written["month"] = _as_wide(month, moved.month) if month.isdigit() else _month_like(month, moved.month)
        return _filled(text.strip(), match, written)
    return None


_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?:T[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?",
        r"(?P<day>\d{1,2})\.\s?(?P<month>\d{1,2})\.\s?(?P<year>\d{4})",
        r"(?P<day>\d{1,2})(?:\.|st|nd|rd|th)?\s+(?P<month>[a-zäöü]+)\.?,?\s+(?P<year>\d{4})",
        r"(?P<month>[a-zäöü]+)\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<year>\d{4})",
        r"(?P<year>\d{4})\s?年\s?(?P<month>\d{1,2})\s?月\s?(?P<day>\d{1,2})\s?[日号]",
    )
)


def _as_wide(before: str, number: int) -> str:
    return f"{number:02}" if len(before) == 2 else str(number)


def _month_like(before: str, number: int) -> str:
    """The month's name in the language and length of `before`."""
    name = before.lower().rstrip(".")
    style = next((names for names in _MONTH_STYLES if name in names), _MONTH_STYLES[0])
    return style[number - 1].capitalize() if before[0].isupper() else style[number - 1]


def _filled(text: str, match: re.Match[str], written: dict[str, str]) -> str:
    for name in sorted(written, key=lambda name: -match.start(name)):
        text = text[: match.start(name)] + written[name] + text[match.end(name) :]
    return text


def _with_rare_words(parts: list[Found], text: str, common: frozenset[str]) -> list[Found]:
    """The parts, in order, with the rare words in between."""
    free = [part.end for part in parts]
    between = zip([0, *free], [*(part.start for part in parts), len(text)], strict=True)
    rare = [
        Found(start + word.start, start + word.end, word.tag)
        for start, end in between
        for word in find_rare_words(text[start:end], common)
    ]
    return sorted([*parts, *rare], key=lambda part: part.start)


def _merged(parts: Iterable[Found]) -> Iterator[Found]:
    """Parts that overlap as one, in order, under the tag of the longest, of equal ones that first in `_PRIORITY`."""
    groups: list[list[Found]] = []
    end = 0
    for part in sorted(parts, key=lambda part: (part.start, part.end)):
        if part.start == part.end:
            continue
        if groups and part.start < end:
            groups[-1].append(part)
        else:
            groups.append([part])
        end = max(end, part.end)
    for group in groups:
        longest = min(group, key=lambda part: (part.start - part.end, _PRIORITY.index(part.tag)))
        yield Found(group[0].start, max(part.end for part in group), longest.tag)


def _analyzer(model: Path | None) -> AnalyzerEngine:
    """Presidio with recognisers that need nothing fetched, over a blank spaCy pipeline or the model in the folder."""
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer import predefined_recognizers as recognizers
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError:
        raise InputError("scrubbing text needs presidio: pip install 'careloop[privacy]'") from None
    kind = _kind_of(model)
    engine: Any = SpacyNlpEngine()
    engine.nlp = {"en": spacy.load(model) if kind == "spacy" and model else spacy.blank("xx")}
    chosen: list[Any] = [
        getattr(recognizers, name)(supported_language="en")
        for name in (
            "IpRecognizer", "IbanRecognizer", "CreditCardRecognizer", "UsSsnRecognizer", "MacAddressRecognizer",
            "DateRecognizer", "UsMbiRecognizer", "NhsRecognizer", "CryptoRecognizer",
        )
    ]  # fmt: skip
    regions = ("US", "GB", "DE", "AT", "CH", "CN")
    chosen.append(recognizers.PhoneRecognizer(supported_language="en", supported_regions=regions))
    if kind == "spacy":
        chosen.append(recognizers.SpacyRecognizer(supported_language="en"))
    if kind == "transformers":
        chosen.append(
            recognizers.HuggingFaceNerRecognizer(model_name=str(model), supported_language="en", device="cpu")
        )
    registry = RecognizerRegistry(chosen, supported_languages=["en"])
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def _kind_of(model: Path | None) -> Literal["spacy", "transformers"] | None:
    if model is None:
        return None
    if (model / "meta.json").is_file():
        return "spacy"
    if (model / "config.json").is_file():
        return "transformers"
    raise InputError(f"{model}: no model folder (a spaCy pipeline has meta.json, a Transformers model config.json)")
