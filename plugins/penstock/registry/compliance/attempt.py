"""Loads a version where that may be done, and where it can be."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.registry.candidates import raise_outage
from penstock.registry.compliance.serialisation import may_be_loaded
from penstock.registry.compliance.spark_trial import FLAVOR, try_in_spark
from penstock.registry.compliance.trial import Trial, try_model
from penstock.training.model_folder import Unusable
from penstock.training.origins import exchange, how_to_adopt
from penstock.training.serialisation import is_skops, runs_code

if TYPE_CHECKING:
    from penstock.registry.compliance.subject import Subject


@dataclass(frozen=True)
class Attempt:
    """What came of it; without a trial, obstacle says why the model was not loaded."""

    trial: Trial | None
    obstacle: str = ""


def attempt(subject: "Subject") -> Attempt:
    """Loads and asks a version, unless that would run code of unknown origin, or its files are others than those that
    are known as this version. Raises ServiceError, nothing else: what else goes wrong is the files' own, and a verdict.
    """
    try:
        if not may_be_loaded(subject):
            return Attempt(None, "it was not loaded: see safe_serialisation")
        if whose := subject.provenance.exchanged:
            return Attempt(None, f"it was not loaded: {_exchanged(subject, whose)}")
        if subject.files.flavor == FLAVOR:
            trial = try_in_spark(subject)
        else:
            trusted = bool(runs_code(subject.files)) or is_skops(subject.files)
            trial = try_model(subject.files, subject.sample, subject.asked, trusted=trusted)
    except Unusable as error:
        return Attempt(None, f"it was not loaded: {error}")
    except Exception as error:  # files of unknown origin may break anything
        raise_outage(error, f"the trial of {subject.files.uri}")
        return Attempt(None, f"it could not be tried: {type(error).__name__}: {str(error)[:300]}")
    return Attempt(trial)


def _exchanged(subject: "Subject", whose: str) -> str:
    adopt = how_to_adopt(subject.registered.name, subject.version.version)
    return (
        f"{exchange(subject.files.digest, whose)}. Register other files as a new version; only who knows where these "
        f"are from lets them in: {adopt}"
    )
