"""Whether an option is safe for this patient: rules as data, each with its source, and the facts they lack."""

from __future__ import annotations

from careloop.plan.safety.finding import Finding

__all__ = ["Finding"]
