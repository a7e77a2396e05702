"""careloop: patient data to predictions, treatment plans, and a check of both against what happened later."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["InputError", "Record", "Study", "__version__"]


class InputError(ValueError):
    """Input that breaks a rule; the message says the rule, what was got, where, and the remedy, never patient data."""


def __getattr__(name: str) -> Any:
    """Load `Record` and `Study` on first use, so that `import careloop` stays light (PEP 562)."""
    if name == "Record":
        from careloop.record import Record

        return Record
    if name == "Study":
        from careloop.study import Study

        return Study
    raise AttributeError(f"module 'careloop' has no attribute {name!r}")
