"""Words of free text that enough patients' texts share; the others, names above all, are nobody's to read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from careloop.clean.privacy.identifiers import Found, plain

# Letters with digits, hyphens and apostrophes inside them ("x-ray", "o'brien", "t2"); numbers alone are values. Chinese
# is written without spaces, so that its words cannot be told apart.
_SIGN = r"[^\W_\u4e00-\u9fff]"
_WORD = re.compile(rf"{_SIGN}+(?:['’-]{_SIGN}+)*")
_SUBJECTS_AT_ONCE = 500  # 10 million words, if each has 100 texts of 200
_COUNTS = pl.Schema({"word": pl.String(), "subjects": pl.UInt32()})


@dataclass
class WordTally:
    """Patients by word of their texts, added up shard by shard; a patient is in one shard only."""

    smallest_group: int
    parts: list[pl.DataFrame] = field(default_factory=lambda: [_COUNTS.to_frame()])

    def add(self, events: pl.DataFrame) -> None:
        """Count one shard's texts."""
        texts = events.select("subject_id", "text_value").drop_nulls()
        subjects = texts["subject_id"].unique().sort()
        for start in range(0, subjects.len(), _SUBJECTS_AT_ONCE):
            chosen = subjects[start : start + _SUBJECTS_AT_ONCE]
            part = texts.filter(pl.col("subject_id").is_in(chosen.implode()))
            pairs = {(subject, word) for subject, text in part.iter_rows() for word in words_of(text)}
            counted = pl.DataFrame(list(pairs), schema={"subject_id": pl.Int64(), "word": pl.String()}, orient="row")
            self.parts.append(counted.group_by("word").agg(subjects=pl.len()).cast(_COUNTS))
        self.parts = [pl.concat(self.parts).group_by("word").agg(pl.col("subjects").sum())]

    def common_words(self) -> frozenset[str]:
        """Words in lower case that texts of enough patients have."""
        (counts,) = self.parts if len(self.parts) == 1 else (pl.concat(self.parts),)
        return frozenset(counts.filter(pl.col("subjects") >= self.smallest_group)["word"])


def words_of(text: str) -> Iterator[str]:
    """Yield what counts as a word, in lower case."""
    return (match[0].lower() for match in _words(plain(text)))


def find_rare_words(text: str, common: frozenset[str]) -> Iterator[Found]:
    """Yield the words of a text that is `plain` which are not in `common`, under the tag WORD."""
    for match in _words(text):
        if match[0].lower() not in common:
            yield Found(match.start(), match.end(), "WORD")


def _words(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _WORD.finditer(text) if any(sign.isalpha() for sign in match[0]))
