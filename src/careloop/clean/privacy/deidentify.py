"""A record without identities: new ids, shifted times, no old ages, no rare codes, no free text; shard by shard."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from careloop import InputError, __version__
from careloop.clean.findings import is_note
from careloop.clean.privacy.ages import AGE_CODES, cap_stated_ages, without_old_ages
from careloop.clean.privacy.dicom.linked import shared_assets
from careloop.clean.privacy.identifiers import looks_identifying
from careloop.clean.privacy.places import DIRECT_CODES, PLACE_CODES, three_digits
from careloop.clean.privacy.pseudonyms import Pseudonyms, read_key
from careloop.clean.privacy.rare import LONGEST_CATEGORY, TEXT_KEY, Tally
from careloop.clean.privacy.release import (
    DeidentificationSettings,
    DeidentificationSummary,
    Release,
    read_run,
    residual_risks,
    write_release,
)
from careloop.clean.privacy.text import Scrubber
from careloop.clean.privacy.words import WordTally
from careloop.record import CARELOOP, EVENTS, Record, code_matches
from careloop.record.delta import live_files, read_rows
from careloop.record.schema import EARLIEST
from careloop.record.subjects import SUBJECTS

Progress = Callable[[str, int, int], None]
_COUNTED = ("subject_id", "time", "known_time", "code", "numeric_value", "unit", "text_value")


def deidentify_record(
    record: Record,
    out: str | Path,
    *,
    key_file: str | Path,
    settings: DeidentificationSettings | None = None,
    known: pl.DataFrame | None = None,
    progress: Progress | None = None,
) -> DeidentificationSummary:
    """Write the record, at its version, to the new folder `out` as a record without identities.

    Ids, shifts and tokens are hashes keyed with `key_file` (made where there is none): the same key gives the same
    patient the same id and shift in every export, so use one key for all that one recipient gets, keep it apart from
    what is shared, and see `pseudonyms.identities` for the way back. All times of a patient move by the same whole
    days, so intervals, order and known_time - time stay exactly. A killed run is taken up by the same call.

    Two passes over the shards, each held in memory once: patients are counted by code, text and unit; then each shard
    is rewritten and appended under its own key. `known` (subject_id, word) are names and other identifiers of patients
    that scrubbing is to find. `progress` is told what is done, how many shards, of how many.

    Raises:
        InputError: `out` holds anything but an earlier run with the same key, record and settings; the key file lies
            where it would be shared; two patients would get one id.
    """
    settings = settings or DeidentificationSettings()
    out, key_file = Path(out), Path(key_file)
    _check_places(record, out, key_file)
    pseudonyms = settings.pseudonyms(read_key(key_file))
    run = pseudonyms.run_name(_description(record, settings))
    shared = _begin(record, out, run)
    rules = _learn(record, settings, pseudonyms, progress)
    scrubber = None if settings.text != "scrubbed" else Scrubber(settings.scrub, rules.common_words)
    work = _Work(rules, scrubber, _identifiers(record, known) if scrubber else None)
    for shard in range(record.shards):
        _tell(progress, "shards written", shard, record.shards)
        events = work.share(record.events(shard).collect())
        if events.height:
            shared = shared.append(events, key=f"deidentify:{run}:{shard}")
    return _finish(shared, work, run)


@dataclass(frozen=True)
class Rules:
    """What is applied to every shard: settings, keyed hashes, and what enough patients have."""

    settings: DeidentificationSettings
    pseudonyms: Pseudonyms
    codes: pl.DataFrame  # code, shared_code (null: dropped)
    texts: pl.Series
    units: pl.Series
    described: pl.DataFrame  # the record's codes table
    subjects: int
    common_words: frozenset[str] | None = None  # of texts that are scrubbed


class _Work:
    """Applies the rules to one shard after the other and counts what they did."""

    def __init__(self, rules: Rules, scrubber: Scrubber | None, known: pl.DataFrame | None) -> None:
        self.rules, self.scrubber, self.known = rules, scrubber, known
        self.removed: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.events_read = self.events_written = 0
        self.used_codes: set[str] = set()

    def share(self, events: pl.DataFrame) -> pl.DataFrame:
        """One shard's events as they are shared."""
        self.events_read += events.height
        events = allowed_events(events, self.rules.settings, self.removed, self.changed)
        events = self._texts(self._codes(self._units(events)))
        events = self._identity(self._times(events))
        self.events_written += events.height
        self.used_codes.update(events["code"].unique())
        return events.select(EVENTS.names())

    def _units(self, events: pl.DataFrame) -> pl.DataFrame:
        rare = pl.col("unit").is_not_null() & ~pl.col("unit").is_in(self.rules.units.implode())
        self.changed["rare unit removed"] += events.filter(rare).height
        return events.with_columns(unit=pl.when(~rare).then("unit"))

    def _codes(self, events: pl.DataFrame) -> pl.DataFrame:
        """Rare codes as their parents, without values, which are of another measurement; or dropped."""
        events = events.join(self.rules.codes, on="code", how="left", maintain_order="left")
        dropped = events["shared_code"].is_null()
        self.removed["code of few patients, or one that may name somebody"] += int(dropped.sum())
        events = events.filter(~dropped)
        moved = pl.col("code") != pl.col("shared_code")
        self.changed["code generalised"] += events.filter(moved).height
        cells = [pl.when(~moved).then(name).alias(name) for name in ("numeric_value", "unit", "text_value")]
        return events.with_columns(cells).with_columns(code="shared_code").drop("shared_code")

    def _texts(self, events: pl.DataFrame) -> pl.DataFrame:
        """Categories stay, other text is dropped or scrubbed."""
        has_text = events["text_value"].is_not_null()
        short = events["text_value"].str.len_chars().fill_null(0) <= LONGEST_CATEGORY
        is_kept = has_text & short & events.select(TEXT_KEY)["text_key"].is_in(self.rules.texts.implode())
        if self.rules.settings.text == "none":
            is_kept = is_kept & False
        texts = events.select(pl.when(is_kept).then("text_value")).to_series()
        is_kept = is_kept & ~looks_identifying(texts)
        rest = has_text & ~is_kept
        if self.scrubber is not None:
            self.changed["text scrubbed"] += int(rest.sum())
            texts = self._scrubbed(events, is_kept, rest)
        else:
            self.changed["text removed"] += int(rest.sum())
            texts = events.select(pl.when(is_kept).then("text_value")).to_series()
        return events.with_columns(texts.alias("text_value"))

    def _scrubbed(self, events: pl.DataFrame, is_kept: pl.Series, rest: pl.Series) -> pl.Series:
        assert self.scrubber is not None
        assert self.known is not None
        rows = events.with_row_index("place").filter(rest).select("place", "subject_id", "text_value")
        rows = rows.join(self.known, on="subject_id", how="left", maintain_order="left")
        days = self.rules.pseudonyms.shift_days(rows["subject_id"])
        done = self.scrubber.scrub(rows["text_value"], known=rows["words"], shift_days=days)
        self.changed.update({f"{tag} in text": count for tag, count in done.found.items()})
        replaced = rows.select("place").with_columns(done.texts.alias("scrubbed"))
        events = events.with_row_index("place").join(replaced, on="place", how="left", maintain_order="left")
        return events.select(pl.when(is_kept).then("text_value").otherwise("scrubbed")).to_series()

    def _times(self, events: pl.DataFrame) -> pl.DataFrame:
        """All times of a patient by the same whole days of UTC."""
        subjects = events["subject_id"].unique().sort()
        shifts = pl.DataFrame({"subject_id": subjects, "days": self.rules.pseudonyms.shift_days(subjects)})
        moved = [(pl.col(name) + pl.duration(days="days")).alias(name) for name in ("time", "known_time")]
        events = events.join(shifts, on="subject_id", how="left", maintain_order="left").with_columns(moved)
        early = (pl.min_horizontal("time", "known_time") < EARLIEST).fill_null(False)
        self.removed["before 1850 once shifted"] += events.filter(early).height
        return events.filter(~early).drop("days")

    def _identity(self, events: pl.DataFrame) -> pl.DataFrame:
        pseudonyms = self.rules.pseudonyms
        subjects = events["subject_id"].unique().sort()
        ids = pl.DataFrame({"subject_id": subjects, "shared_id": pseudonyms.subject_ids(subjects)})
        events = events.join(ids, on="subject_id", how="left", maintain_order="left")
        return events.with_columns(
            pl.col("shared_id").alias("subject_id"),
            pseudonyms.tokens(events["source"]),
            shared_assets(events["asset"], pseudonyms),
        ).drop("shared_id")


def allowed_events(
    events: pl.DataFrame,
    settings: DeidentificationSettings,
    removed: Counter[str] | None = None,
    changed: Counter[str] | None = None,
) -> pl.DataFrame:
    """Events that may be shared at all, before rare ones are sought: no notes, identifiers, places or old ages."""
    removed, changed = Counter() if removed is None else removed, Counter() if changed is None else changed

    def without(rows: pl.DataFrame, unwanted: pl.Expr, reason: str) -> pl.DataFrame:
        kept = rows.filter(~unwanted)
        removed[reason] += rows.height - kept.height
        return kept

    events = without(events, is_note(), "note of cleaning")
    if settings.careloop_events == "dropped":
        events = without(events, pl.col("code").str.starts_with(CARELOOP), "written by careloop")
    events = without(events, code_matches([*DIRECT_CODES, *settings.drop_codes]), "code of an identifier")
    if settings.postal_codes == "three_digits":
        events = three_digits(events)
        kept = pl.col("is_three_digits")
        events = without(events, code_matches(PLACE_CODES) & ~kept, "place").drop("is_three_digits")
    else:
        events = without(events, code_matches(PLACE_CODES), "place")
    if settings.over_89 == "kept":
        return events
    changed["stated age capped at 90"] += events.filter(code_matches(AGE_CODES)).height
    return without_old_ages(cap_stated_ages(events), removed, changed)


def _learn(
    record: Record, settings: DeidentificationSettings, pseudonyms: Pseudonyms, progress: Progress | None
) -> Rules:
    """Count patients by code, text and unit over all shards, and look for two patients with one new id."""
    tally, ids = Tally(settings.smallest_group), [pl.Series("subject_id", [], dtype=pl.Int64())]
    words = (
        WordTally(settings.smallest_group) if settings.text == "scrubbed" and settings.rare_words == "tagged" else None
    )
    for shard in range(record.shards):
        _tell(progress, "shards counted", shard, record.shards)
        events = allowed_events(record.events(shard).select(_COUNTED).collect(), settings)
        tally.add(events)
        if words is not None:
            words.add(events)
        ids.append(pseudonyms.subject_ids(events["subject_id"].unique()))
    if pl.concat(ids).is_duplicated().any():
        raise InputError("two patients would get the same new id; name a new key file, its key will part them")
    described = record.code_metadata()
    first = pl.col("parent_codes").list.sort().list.first()
    parents = dict(described.select("code", first).drop_nulls().iter_rows())
    codes = tally.renamed_codes(parents)
    named = looks_identifying(_free_part(codes["shared_code"]), numbers=False)
    codes = codes.with_columns(shared_code=pl.when(~named).then("shared_code"))
    texts, units, common = tally.common_texts(), tally.common_units(), None if words is None else words.common_words()
    return Rules(settings, pseudonyms, codes, texts, units, described, len(pl.concat(ids)), common)


def _free_part(codes: pl.Series) -> pl.Series:
    """What follows the vocabulary, of codes that may be somebody's own words: with letters in lower case or spaces."""
    return codes.str.extract(r"//([^/]*[\p{Ll}\s\p{Han}][^/]*)$")


def _description(record: Record, settings: DeidentificationSettings) -> str:
    table = DeltaTable(record.path / "events").metadata().id
    return json.dumps([str(table), record.version, settings.model_dump(mode="json"), __version__])


def _check_places(record: Record, out: Path, key_file: Path) -> None:
    source, target, key = record.path.resolve(), out.resolve(), key_file.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise InputError(f"{out}: must lie apart from the record {record.path}; choose another folder")
    in_source = key.is_relative_to(source) and not key.is_relative_to(source / "private")
    if key.is_relative_to(target) or in_source:
        raise InputError(f"{key_file}: the key must not lie in a folder that is shared; choose another place")


def _begin(record: Record, out: Path, run: str) -> Record:
    """Make the record that is shared, without `private/`, or take up that of an earlier run."""
    earlier = read_run(out)
    if earlier is not None:
        if earlier != run:
            raise InputError(
                f"{out}: written with another key, record version, settings or careloop; choose a new folder"
            )
        shared = Record.open(out)
    else:
        shared = Record.open(out) if (out / "record.json").exists() else Record.create(out, shards=record.shards)
        if shared.version or shared.shards != record.shards:
            raise InputError(f"{out}: is another record; choose a new folder")
    shutil.rmtree(out / "private", ignore_errors=True)
    if earlier is None:
        write_release(out, Release(run, finished=False))
    return shared


def _identifiers(record: Record, known: pl.DataFrame | None) -> pl.DataFrame:
    """Words that name each patient: the hospital's own identifiers, and those the caller knows; column `words`."""
    parts = [] if known is None else [known.select(pl.col("subject_id").cast(pl.Int64), pl.col("word").cast(pl.String))]
    private = record.path / "private" / "subjects"
    if private.is_dir():
        subjects = read_rows(private, SUBJECTS)
        # Of "origin:id" the id alone is what stands in texts.
        own = pl.col("source_id").str.split(":").list.last()
        parts += [subjects.select("subject_id", word="source_id"), subjects.select("subject_id", word=own)]
    empty = pl.Schema({"subject_id": pl.Int64(), "word": pl.String()}).to_frame()
    return pl.concat([empty, *parts]).group_by("subject_id").agg(words=pl.col("word").unique().sort())


def _describe_codes(shared: Record, work: _Work) -> None:
    """Codes table of the codes that are shared: no others, no parents outside, no description that names somebody."""
    codes = sorted(work.used_codes)
    rows = work.rules.described.filter(pl.col("code").is_in(codes))
    named = looks_identifying(rows["description"])
    rows = rows.with_columns(
        description=pl.when(~named).then("description"),
        parent_codes=pl.col("parent_codes").list.set_intersection(codes),
        unit=pl.when(pl.col("unit").is_in(work.rules.units.implode())).then("unit"),
    )
    if rows.height and not shared.code_metadata().equals(rows.sort("code")):
        shared.describe_codes(rows)


def _finish(shared: Record, work: _Work, run: str) -> DeidentificationSummary:
    _describe_codes(shared, work)
    shared = shared.compact()
    _remove_old_files(shared)
    shared, rules = Record.open(shared.path), work.rules
    codes = rules.codes.filter(pl.col("code").is_not_null())
    summary = DeidentificationSummary(
        subjects=rules.subjects,
        events_read=work.events_read,
        events_written=work.events_written,
        codes_generalised=codes.filter(pl.col("shared_code") != pl.col("code")).height,
        codes_dropped=codes["shared_code"].null_count(),
        removed={reason: count for reason, count in sorted(work.removed.items()) if count},
        changed={reason: count for reason, count in sorted(work.changed.items()) if count},
        risks=residual_risks(rules.settings),
        record_version=shared.version,
    )
    write_release(shared.path, Release(run, finished=True, settings=rules.settings, summary=summary))
    return summary


def _remove_old_files(shared: Record) -> None:
    """Leave one file a shard: unfinished exports, and what a killed run left behind, would be shared with it."""
    folder = shared.path / "events"
    table = DeltaTable(folder)
    if set(folder.rglob("*.parquet")) - {file.path for file in live_files(folder, table)}:
        table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)


def _tell(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(what, done, total)
