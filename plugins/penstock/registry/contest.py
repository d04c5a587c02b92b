"""What a comparison is about: two versions, and the newest labelled rows that neither has trained on."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from penstock.clock import parse_as_of, to_text
from penstock.errors import ServiceError, SpecError, TableError
from penstock.registry.candidates import load_version
from penstock.registry.client import RegisteredModel
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Lookup, Model, OnDemand
from penstock.training.errors import ScoringError
from penstock.training.feature_spec import FILE_NAME as FEATURE_SPEC
from penstock.training.feature_spec import trained_as_known
from penstock.training.heuristic import heuristic_predictions
from penstock.training.scoring import Scorer
from penstock.training.slices import MOST_VALUES, is_cut, slice_rows, value_slice
from penstock.training.trained_model import FILE_NAME
from penstock.training.units import Units, units_of
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Rows:
    """n labelled rows and what each side says about them (float64 of length n).

    production: None where there is none, or where it cannot be asked (then `production_fails` says why).
    after: all prediction times lie after it. inputs: the tables that were read, and their versions.
    """

    frame: "pd.DataFrame"
    label: "np.ndarray"
    units: Units
    after: datetime
    inputs: dict[str, int]
    candidate: "np.ndarray"
    production: "np.ndarray | None"
    production_fails: str | None

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Contest:
    """A candidate and production (None before the first promotion), as of a moment.

    as_of: the promotion's moment, which stays when a method is asked again. asked_at: now, by the same clock.
    """

    workspace: Workspace
    project: LoadedProject
    model_name: str
    candidate: int
    production: int | None
    as_of: datetime
    asked_at: datetime

    @property
    def model(self) -> Model:
        """The declaration."""
        return self.project.model(self.model_name)

    @cached_property
    def registered(self) -> RegisteredModel:
        """The model in the registry."""
        return RegisteredModel(self.workspace, self.project.name, self.model_name)

    @cached_property
    def rows(self) -> Rows:
        """The newest labelled rows that neither has trained on, scored by both.

        Raises ScoringError where the candidate cannot score, TableError for a table that is not there.
        """
        ours = self._candidate
        theirs, problem = self._load_production()
        after = max(_trained_until(side) for side in (ours, theirs) if side is not None)
        frame, inputs = self._read(ours, after)
        said = None
        if theirs is not None:
            try:
                said = theirs.predict(self._rows_of_other(ours, theirs, after, frame))
            except (ScoringError, TableError, SpecError) as error:
                problem = str(error)
        rule = self.model.promotion
        return Rows(
            frame=frame, label=frame["label"].to_numpy(dtype="float64"),
            units=units_of(frame, rule.resampling, rule.seed), after=after, inputs=inputs,
            candidate=ours.predict(frame), production=said, production_fails=problem,
        )  # fmt: skip

    @property
    def period(self) -> str:
        """The time of the rows, in words."""
        return f"after {to_text(self.rows.after)} up to {to_text(self.as_of)}"

    @cached_property
    def slices(self) -> "dict[str, np.ndarray]":
        """The rows of each slice of evaluation.slices, as masks (bool of length n); none of them is empty."""
        columns = [name for name in self.model.evaluation.slices if name in self.rows.frame.columns]
        return {found.name: found.mask for found in slice_rows(self.rows.frame, columns)}

    @property
    def slice_columns_left_out(self) -> list[str]:
        """The columns of evaluation.slices that the candidate's rows do not have."""
        return [name for name in self.model.evaluation.slices if name not in self.rows.frame.columns]

    @property
    def slices_without_labels(self) -> list[str]:
        """Slices of which no row has a label, as far as their values are known: from rows of the entity without one,
        or from training.
        """
        frame = self.rows.frame
        expected = self._values_of_entity()
        for feature in self._candidate.columns.features:
            known = feature.categories or ()
            if feature.name in self.model.evaluation.slices and 0 < len(known) <= MOST_VALUES:
                expected.setdefault(feature.name, []).extend(known)
        names = {value_slice(name, value) for name, values in expected.items() for value in values}
        return sorted(names - {value_slice(name, value) for name in expected for value in frame[name].unique()})

    def _values_of_entity(self) -> dict[str, list[Any]]:
        """By column of the entity that is sliced by value, the most frequent ones of all rows, labelled or not."""
        from penstock.features.entities import entity_rows, frequent_values
        from penstock.features.inputs import open_input

        entity, frame = self.model.entity, self.rows.frame
        own = [name for name in self.model.evaluation.slices if name in (*entity.keys, *entity.features)]
        asked = [name for name in own if not is_cut(frame[name]) and frame[name].dtype.kind != "M"]  # no timestamps
        if not asked or frame.empty:
            return {}
        inputs = {entity.table: open_input(self.workspace, self.project.name, entity.table)}
        with self.workspace.spark() as spark:
            rows = entity_rows(spark, entity, inputs, self.as_of, self.rows.after)
            return frequent_values(rows, asked, MOST_VALUES)

    @cached_property
    def heuristic(self) -> "np.ndarray":
        """What the heuristic says about the rows. Raises ScoringError where the version lacks what it needs."""
        mean = self._candidate.feature_spec.get("label_mean")
        if mean is None:
            mean = self._recorded_mean()  # a version from before it stood among the model's files
        if mean is None and self.model.promotion.heuristic is None:
            raise ScoringError(
                f"neither its {FEATURE_SPEC} nor {FILE_NAME} of its run has the training block's mean label: declare "
                "promotion.heuristic, or train it with Penstock"
            )
        features = self.rows.frame[self._candidate.columns.names]
        return heuristic_predictions(self.project, self.model, features, float(mean or 0.0))

    def _recorded_mean(self) -> float | None:
        text = self.registered.run_text(self.registered.version(self.candidate), FILE_NAME)
        return float(json.loads(text)["label_mean"]) if text else None

    @cached_property
    def _candidate(self) -> Scorer:
        return load_version(self.workspace, self.registered.name, self.candidate)

    def _load_production(self) -> tuple[Scorer | None, str | None]:
        if self.production is None:
            return None, None
        try:
            return load_version(self.workspace, self.registered.name, self.production), None
        except ScoringError as error:
            return None, str(error)

    def _read(self, scorer: Scorer, after: datetime) -> "tuple[pd.DataFrame, dict[str, int]]":
        """Labelled rows with the features of a version's own feature_spec, and what the rule asks of the entity."""
        from penstock.features.training_set import labelled_rows

        spec, asked = scorer.feature_spec, [self.model.promotion.resampling, *self.model.evaluation.slices]
        of_rule = [name for name in self.model.entity.features if name in asked]
        found = labelled_rows(
            self.workspace, self.project.name, self.model_name, self.as_of, after,
            lookups=[Lookup.model_validate(item) for item in spec["lookups"]],
            entity_features=list(dict.fromkeys([*spec["entity"]["features"], *of_rule])),
            on_demand_features={name: OnDemand.model_validate(x) for name, x in spec.get("on_demand", {}).items()},
            as_known=trained_as_known(spec),
        )  # fmt: skip
        return found, dict(found.attrs.get("inputs", {}))

    def _rows_of_other(self, ours: Scorer, theirs: Scorer, after: datetime, frame: "pd.DataFrame") -> "pd.DataFrame":
        """The same rows with the other version's features, in the same order."""
        mine, other = ours.feature_spec, theirs.feature_spec
        same = all(mine.get(part) == other.get(part) for part in ("lookups", "on_demand"))
        same = same and mine["entity"]["features"] == other["entity"]["features"]
        if same and trained_as_known(mine) == trained_as_known(other):
            return frame
        found, _ = self._read(theirs, after)
        keys = list(self.model.entity.keys)
        if not found[keys].equals(frame[keys]):
            raise ServiceError(
                f"{self.project.name}.{self.model.entity.table}: rows changed between two reads, or the keys "
                f"{', '.join(keys)} are not unique: run the comparison again"
            )
        return found


def _trained_until(scorer: Scorer) -> datetime:
    return parse_as_of(scorer.feature_spec["trained_until"])
