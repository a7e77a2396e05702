"""Codes to standard codes (SNOMED, RxNorm, LOINC) by the OMOP vocabulary files that a user downloads from Athena."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.clean.apply import Detector, codes_as_delivered
from careloop.clean.findings import findings, together
from careloop.record import CARELOOP, Record

RULE = "code_mapped"
STANDARD = ("SNOMED", "RXNORM", "LOINC")
MAPS_TO, MAPS_TO_VALUE = "Maps to", "Maps to value"
# Vocabularies whose codes begin with something else than the vocabulary's own name.
PREFIXES = {"RxNorm": "RXNORM", "RxNorm Extension": "RXNORM", "ICD9Proc": "ICD9PROC", "MedDRA": "MEDDRA"}
MAPPING = pl.Schema(
    {"code": pl.String(), "mapped_code": pl.String(), "relationship": pl.String(), "targets": pl.UInt32()}
)
DESCRIBED = pl.Schema({"code": pl.String(), "description": pl.String(), "parent_codes": pl.List(pl.String())})
_CONCEPT = ("concept_id", "concept_name", "vocabulary_id", "standard_concept", "concept_code", "invalid_reason")
_RELATIONSHIP = ("concept_id_1", "concept_id_2", "relationship_id", "invalid_reason")
_ANCESTOR = ("ancestor_concept_id", "descendant_concept_id", "min_levels_of_separation")
_SIDE = r"(//(?:LOW|HIGH))$"  # of a range: LOINC//2160-0//HIGH


@dataclass(frozen=True)
class Vocabulary:
    """What the vocabulary files say about some codes (`VOCABULARY//CODE`, without role).

    `concepts`: code, name, is_standard, one row a code; `maps`: code, mapped_code, relationship ("Maps to" or
    "Maps to value"), only to valid standard concepts; `parents`: code, parent_code, one level up.
    """

    concepts: pl.DataFrame
    maps: pl.DataFrame
    parents: pl.DataFrame


@dataclass(frozen=True)
class CodeMapping:
    """What vocabulary files make of a record's codes.

    `step` maps them when given to `clean_record(record, also=[mapping.step])`. `mapped` and `unmapped` are tables of
    code, events, and mapped_code or reason; `described` is for `record.describe_codes`.
    """

    step: Detector
    mapped: pl.DataFrame
    unmapped: pl.DataFrame
    described: pl.DataFrame


def read_mapping(record: Record, folder: Path, *, to: Sequence[str] = STANDARD) -> CodeMapping:
    """Look the codes of a record, as they were delivered, up in the vocabulary files of `folder`.

    Raises:
        InputError: a file is missing or has other columns, or `to` names no vocabulary.
    """
    if not to or isinstance(to, str):
        raise InputError(f"vocabularies to map to: give names such as {', '.join(STANDARD)}")
    counts = codes_as_delivered(record).rename({"count": "events"})
    vocabulary = read_vocabulary(folder, counts["code"])
    mapping = map_codes(counts["code"], vocabulary, to=to)
    one = mapping.filter(pl.col("targets") == 1)
    unmapped = unmapped_codes(counts["code"], vocabulary, to=to)
    # The codes that events then have want a description too.
    every = pl.concat([counts["code"], one["mapped_code"]]).unique().sort()
    return CodeMapping(
        step=Detector((RULE,), lambda events, _: code_mapped(events, mapping)),
        mapped=one.join(counts, on="code").select("code", "events", "mapped_code").sort("code"),
        unmapped=unmapped.join(counts, on="code").select("code", "events", "reason").sort("code"),
        described=describe(every, read_vocabulary(folder, every)),
    )


def read_vocabulary(folder: Path, codes: Iterable[str]) -> Vocabulary:
    """Read what CONCEPT, CONCEPT_RELATIONSHIP and CONCEPT_ANCESTOR say of `codes`.

    The files (tab-separated `.csv`, or `.parquet`) are scanned, never held: memory is that of the rows about `codes`.
    Of several concepts with one code the valid ones count; an invalid concept counts where there is no other, as it may
    still be mapped. Without CONCEPT_ANCESTOR there are no parents.

    Raises:
        InputError: a file is missing or has other columns.
    """
    folder = Path(folder)
    wanted = _parts(codes)["base"].unique().to_frame("code")
    concept = _scan(folder, "CONCEPT", _CONCEPT)
    coded = concept.with_columns(code=_prefix() + "//" + pl.col("concept_code").str.strip_chars())
    found = _collect(coded.join(wanted.lazy(), on="code", how="semi"), folder)
    valid = found.filter(pl.col("invalid_reason").is_null())
    found = pl.concat([valid, found.join(valid, on="code", how="anti")]).sort("code", "concept_id")
    ids = found.select("concept_id", "code")
    relations = _scan(folder, "CONCEPT_RELATIONSHIP", _RELATIONSHIP).filter(
        pl.col("relationship_id").is_in([MAPS_TO, MAPS_TO_VALUE]), pl.col("invalid_reason").is_null()
    )
    relations = relations.select("concept_id_1", "concept_id_2", relationship="relationship_id")
    maps = _collect(relations.join(ids.lazy(), left_on="concept_id_1", right_on="concept_id"), folder)
    parents = _parents(folder, ids)
    others = pl.concat([maps["concept_id_2"], parents["ancestor_concept_id"]]).unique().to_frame("concept_id")
    named = _collect(coded.join(others.lazy(), on="concept_id", how="semi"), folder)
    valid = named.filter(pl.col("invalid_reason").is_null())
    targets = valid.filter(standard_concept="S").select(concept_id_2="concept_id", mapped_code="code")
    above = valid.select(ancestor_concept_id="concept_id", parent_code="code")
    return Vocabulary(
        found.select("code", name="concept_name", is_standard=pl.col("standard_concept").eq_missing("S")).unique(
            "code", keep="first", maintain_order=True
        ),
        maps.join(targets, on="concept_id_2").select("code", "mapped_code", "relationship").unique().sort(pl.all()),
        parents.join(above, on="ancestor_concept_id").select("code", "parent_code").unique().sort(pl.all()),
    )


def map_codes(codes: Iterable[str], vocabulary: Vocabulary, *, to: Sequence[str] = STANDARD) -> pl.DataFrame:
    """Return the standard codes (of the vocabularies `to`) of each code, as columns of MAPPING.

    `targets` counts everything that a code maps to: with one it means the same or something wider; with more (several
    standard concepts, or a concept with a value, as "history of" and the disease) no single code says it, and the
    row must not be taken for its meaning. A code that is standard already is not listed. A role is kept:
    `ALLERGY//NDC//1` maps to `ALLERGY//RXNORM//2`.
    """
    counted = vocabulary.maps.with_columns(targets=pl.len().over("code"))
    is_new = pl.col("mapped_code") != pl.col("code")
    wanted = counted.filter(is_new, pl.col("mapped_code").str.split("//").list.first().is_in(list(to)))
    rows = _parts(codes).join(wanted, left_on="base", right_on="code", maintain_order="left_right")
    mapped = pl.concat_str("role", "mapped_code", "side", ignore_nulls=True)
    return rows.select("code", mapped_code=mapped, relationship="relationship", targets="targets").cast(MAPPING)


def unmapped_codes(codes: Iterable[str], vocabulary: Vocabulary, *, to: Sequence[str] = STANDARD) -> pl.DataFrame:
    """Return code and reason of each code that stays as it is and is not standard itself."""
    mapping = map_codes(codes, vocabulary, to=to)
    rows = _parts(codes).join(vocabulary.concepts, left_on="base", right_on="code", how="left", maintain_order="left")
    rows = rows.join(
        mapping.group_by("code").agg(pl.col("targets").max()), on="code", how="left", maintain_order="left"
    )
    rows = rows.filter(~pl.col("is_standard").fill_null(False), pl.col("targets").fill_null(0) != 1)
    why = (
        pl.when(pl.col("name").is_null())
        .then(pl.lit("not in the vocabulary files"))
        .when(pl.col("targets").is_null())
        .then(pl.lit("no valid standard code"))
        .otherwise(pl.lit("several standard codes"))
    )
    return rows.select("code", reason=why)


def describe(codes: Iterable[str], vocabulary: Vocabulary) -> pl.DataFrame:
    """Return description and parent_codes of the codes that the vocabulary has, for `Record.describe_codes`.

    Parents are the concepts one level above and the standard codes that a code maps to, with the code's role.
    """
    above = pl.concat(
        [
            vocabulary.parents,
            vocabulary.maps.filter(relationship=MAPS_TO).select("code", parent_code="mapped_code"),
        ]
    )
    above = above.filter(pl.col("parent_code") != pl.col("code")).unique().sort(pl.all())
    parts = _parts(codes).join(vocabulary.concepts, left_on="base", right_on="code", maintain_order="left")
    rows = parts.join(above, left_on="base", right_on="code", how="left", maintain_order="left_right")
    parent = pl.concat_str("role", "parent_code", "side", ignore_nulls=True)
    rows = rows.with_columns(parent=pl.when(pl.col("parent_code").is_not_null()).then(parent))
    grouped = rows.group_by("code", maintain_order=True).agg(pl.col("name").first(), pl.col("parent").drop_nulls())
    has_parents = pl.col("parent").list.len() > 0
    return grouped.select("code", description="name", parent_codes=pl.when(has_parents).then("parent")).cast(DESCRIBED)


def code_mapped(events: pl.DataFrame, mapping: pl.DataFrame) -> pl.DataFrame:
    """Find events whose code has one standard code, which replaces it; those with several are flagged, as they are.

    Args:
        events: columns of EVENTS and `row`.
        mapping: as from `map_codes`.
    """
    one = mapping.filter(pl.col("targets") == 1).unique("code", keep="first", maintain_order=True)
    several = mapping.filter(pl.col("targets") > 1).select("code").unique()
    rows = events.select("row", "code")
    changed = rows.join(one, on="code", maintain_order="left").select("row", after_code="mapped_code")
    flagged = rows.join(several, on="code", how="semi", maintain_order="left").select("row")
    return together([findings(changed, RULE, "changed"), findings(flagged, RULE, "flagged")])


def _parts(codes: Iterable[str]) -> pl.DataFrame:
    """Each code once, with its role (`ALLERGY//`), the vocabulary's code in it, and the side of a range.

    careloop's own codes, and those without a vocabulary, are left out.
    """
    frame = pl.DataFrame({"code": pl.Series(list(codes), dtype=pl.String)}).unique(maintain_order=True)
    frame = frame.filter(~pl.col("code").str.starts_with(CARELOOP)).drop_nulls()
    frame = frame.with_columns(side=pl.col("code").str.extract(_SIDE), whole=pl.col("code").str.replace(_SIDE, ""))
    pieces = pl.col("whole").str.split("//")
    frame = frame.filter(pieces.list.len() > 1).with_columns(base=pieces.list.tail(2).list.join("//"))
    return frame.with_columns(role=pl.col("whole").str.strip_suffix(pl.col("base"))).drop("whole")


def _prefix() -> pl.Expr:
    return pl.col("vocabulary_id").replace(PREFIXES)


def _scan(folder: Path, name: str, columns: Sequence[str]) -> pl.LazyFrame:
    """One vocabulary file; ids as integers."""
    files = {file.name.lower(): file for file in sorted(folder.glob("*"))}
    text, parquet = files.get(f"{name.lower()}.csv"), files.get(f"{name.lower()}.parquet")
    if text:
        # Athena's files do not quote: a quotation mark belongs to a name.
        scan = pl.scan_csv(
            text, separator="\t", quote_char=None, infer_schema=False, encoding="utf8-lossy", glob=False,
            truncate_ragged_lines=True,
        )  # fmt: skip
    elif parquet:
        scan = pl.scan_parquet(parquet, glob=False, hive_partitioning=False)
    else:
        raise InputError(f"{folder}: no {name}.csv; give the unpacked folder of a vocabulary download from Athena")
    try:
        names = {found.lower(): found for found in scan.collect_schema().names()}
    except (pl.exceptions.PolarsError, OSError):
        raise InputError(f"{text or parquet}: cannot be read; download it again") from None
    missing = [column for column in columns if column not in names]
    if missing:
        raise InputError(
            f"{text or parquet}: no column {', '.join(missing)}; Athena's file is tab-separated with lower-case names"
        )
    ids = [column for column in columns if "_id" in column and column not in {"vocabulary_id", "relationship_id"}]
    integers = [pl.col(column).cast(pl.Int64, strict=False) for column in ids]
    chosen = scan.select(pl.col(names[column]).alias(column) for column in columns)
    texts = [
        pl.when(pl.col(column).cast(pl.String) != "").then(pl.col(column).cast(pl.String)).alias(column)
        for column in columns
        if column not in ids
    ]
    return chosen.with_columns(*integers, *texts)


def _collect(rows: pl.LazyFrame, folder: Path) -> pl.DataFrame:
    try:
        return rows.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError):
        raise InputError(f"{folder}: a vocabulary file cannot be read to its end; download it again") from None


def _parents(folder: Path, ids: pl.DataFrame) -> pl.DataFrame:
    if not any(file.stem.lower() == "concept_ancestor" for file in folder.iterdir()):
        return pl.DataFrame(schema={"ancestor_concept_id": pl.Int64(), "code": pl.String()})
    direct = _scan(folder, "CONCEPT_ANCESTOR", _ANCESTOR).filter(
        pl.col("min_levels_of_separation").cast(pl.Int64, strict=False) == 1
    )
    found = direct.join(ids.lazy(), left_on="descendant_concept_id", right_on="concept_id")
    return _collect(found, folder).select("ancestor_concept_id", "code")
