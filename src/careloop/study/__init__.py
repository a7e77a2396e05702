"""The study: one YAML file as a typed object, and the loop from record to report that it describes."""

from careloop.study.file import example_study
from careloop.study.folder import RunFolder
from careloop.study.stages import packages, read_plan
from careloop.study.study import Study

__all__ = ["RunFolder", "Study", "example_study", "packages", "read_plan"]
