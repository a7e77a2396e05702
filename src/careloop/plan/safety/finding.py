"""What a safety check says about one option for one patient, with the rule, its source and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["block", "ask", "caution", "info"]


@dataclass(frozen=True)
class Finding:
    """One rule that applies to one option.

    `severity`: block, the option must not be offered; ask, a fact that the rule needs is not known, so the option is
    not offered until it is; caution, the option is demoted below those without; info, shown only.
    `kind` is the family of the rule (allergy, condition, laboratory, interaction, ...), `facts` the patient's facts it
    rests on in words, `text` one sentence for a clinician, `remedy` what to do.
    """

    option: str
    drug: str
    kind: str
    severity: Severity
    rule: str
    text: str
    remedy: str
    facts: tuple[str, ...]
    citation: str
    rules_version: str
