"""A study: who enters, what is predicted, with which models, which treatments; and the loop that carries it out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from careloop import InputError
from careloop.cohort import CohortSection
from careloop.evaluate import EvaluationSection
from careloop.features import FeaturesSection
from careloop.features.timelines import TimelinesSection
from careloop.plan import PlanSection
from careloop.plan.trial.definition import TrialSection, check_trial
from careloop.record import Record
from careloop.record.shards import HERE
from careloop.study import genome_stages, plan_stages, sequence_stages, stages
from careloop.study.file import explain_mistakes, read_yaml
from careloop.study.folder import RunFolder
from careloop.train import ModelSection, PretrainingSection, default_models, with_references

STOPPED = "STOPPED//"  # what ingest puts before a drug's code where it ended


class Study(BaseModel):
    """A study file as a typed object; each section is defined in the room that uses it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Short name, used in file names and events.")
    description: str = Field(default="", description="What the study asks, in a sentence or two, for the report.")
    cohort: CohortSection = Field(description="Who enters and when, what is predicted, arms and splits.")
    features: FeaturesSection = Field(default_factory=FeaturesSection, description="What is computed from the history.")
    timelines: TimelinesSection = Field(
        default_factory=TimelinesSection, description="What models of event sequences read."
    )
    pretraining: PretrainingSection | None = Field(
        default=None,
        description="What a Transformer learns from whole histories first, for models that start pretrained.",
    )
    models: tuple[ModelSection, ...] = Field(
        default_factory=lambda: tuple(default_models()), min_length=1, description="Models trained on the same rows."
    )
    primary_model: str | None = Field(
        default=None,
        description="The model whose predictions are explained, planned with and verified; default: the first.",
    )
    examples: tuple[int, ...] = Field(
        default=(),
        description="Held-out subjects shown in full in the report; default: one each of low, middle and high risk.",
    )
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection, description="How models are evaluated.")
    plan: PlanSection | None = Field(default=None, description="How treatments are compared; needs cohort.treatment.")
    trial: TrialSection | None = Field(
        default=None, description="A target trial of strategies over time, emulated from the record."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [model.name for model in self.all_models]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"two models are called {repeated[0]}; give each its own name")
        if self.primary_model is not None and self.primary_model not in names:
            raise ValueError(f"primary_model must be one of {', '.join(names)}, got {self.primary_model}")
        if self.plan is not None and self.cohort.treatment is None:
            raise ValueError("plan compares treatments, but cohort.treatment names none; add its arms, or remove plan")
        if self.plan is not None and self.plan.safety is not None and self.cohort.treatment is not None:
            unlisted = [arm for arm in self.cohort.treatment.arms if arm not in self.plan.safety.options]
            if unlisted:
                raise ValueError(
                    f"plan.safety.options must list every arm; {unlisted[0]} is missing, name its drugs, or [] for none"
                )
        if self.trial is not None:
            try:
                check_trial(self.trial, self.cohort)
            except InputError as error:
                raise ValueError(str(error)) from None
        unprepared = [model.name for model in self.models if model.start == "pretrained" and self.pretraining is None]
        if unprepared:
            raise ValueError(
                f"model {unprepared[0]} starts pretrained; add a pretraining section, such as {{size: tiny}}"
            )
        return self

    @classmethod
    def read(cls, path: str | Path) -> Study:
        """Read a study file. InputError names the line, the field and what is allowed there."""
        content, lines = read_yaml(Path(path))
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise InputError(explain_mistakes(error, cls, Path(path), lines)) from None

    @cached_property
    def all_models(self) -> tuple[ModelSection, ...]:
        """The models named, with logistic regression and LightGBM beside any network."""
        return tuple(with_references(list(self.models))[0])

    @property
    def arm_codes(self) -> tuple[str, ...]:
        """Codes of the treatment arms and of their end: what is chosen at the prediction time, no ground to choose."""
        if self.cohort.treatment is None:
            return ()
        codes = self.cohort.treatment.codes
        return (*codes, *(f"{STOPPED}{code}" for code in codes))

    @property
    def primary(self) -> str:
        """Name of the model whose predictions are explained and verified."""
        return self.primary_model or self.models[0].name

    def pretrain(
        self, record: Record, out: str | Path, *, on: str = HERE, notify: Callable[[str, str], None] | None = None
    ) -> RunFolder:
        """Only the study's pre-training, into the run folder `out`, where `run` finds it finished."""
        if self.pretraining is None:
            raise InputError("the study has no pretraining section; add one, such as pretraining: {objective: masked}")
        facts = Record.open(record.path, version=record.facts_version)
        run = RunFolder.begin(Path(out), notify=notify)
        stages.note_study(self, facts, run)
        stages.select(self, facts, run, on=on)
        sequence_stages.pretrain_network(self, facts, run, on=on)
        return run

    def run(
        self, record: Record, out: str | Path, *, on: str = HERE, notify: Callable[[str, str], None] | None = None
    ) -> RunFolder:
        """Run the loop on `record` into the folder `out`; stages that are finished and unchanged are not run again.

        The study reads the record at its newest facts (`Record.facts_version`), so that the events it writes back
        itself are no new input. Cohort and features are computed shard by shard, `on` as `each_shard` has it, with the
        same results. `notify(stage, state)` hears "running", "done" or "unchanged".

        Raises:
            InputError: the record or the study breaks a rule; finished stages stay.
        """
        facts = Record.open(record.path, version=record.facts_version)
        run = RunFolder.begin(Path(out), notify=notify)
        stages.note_study(self, facts, run)
        stages.select(self, facts, run, on=on)
        stages.compute_features(self, facts, run, on=on)
        sequence_stages.pretrain_network(self, facts, run, on=on)
        sequence_stages.build_timelines(self, facts, run, on=on)
        for model in self.all_models:
            stages.train(self, model, facts, run)
        stages.predict_held_out(self, facts, run)
        stages.evaluate(self, run)
        genome_stages.compare_genome(self, facts, run, on=on)
        plan_stages.make_plans(self, facts, run)
        plan_stages.emulate(self, facts, run, on=on)
        stages.show_examples(self, run)
        stages.check_explanations(self, run)
        stages.verify_held_out(self, run)
        stages.write_back(self, facts, run)
        stages.report(self, run)
        return run
