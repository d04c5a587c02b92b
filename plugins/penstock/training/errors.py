"""What can go wrong while a model is trained, or asked."""

from penstock.errors import PenstockError


class TrainingError(PenstockError):
    """A model cannot be trained, evaluated or registered; says what is missing and what to do."""


class ScoringError(PenstockError):
    """A model cannot be asked: it cannot be loaded, or a feature column is missing or of another type."""
