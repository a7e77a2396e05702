"""Whether an option is safe for this patient: rules as data, each with its source, and what is missing to apply them."""

from __future__ import annotations

from careloop.plan.safety.finding import Finding

__all__ = ["Finding"]
