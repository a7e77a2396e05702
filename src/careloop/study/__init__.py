"""The study: one YAML file as a typed object, and the loop from record to report that it describes."""

from careloop.study.folder import RunFolder
from careloop.study.study import Study

__all__ = ["RunFolder", "Study"]
