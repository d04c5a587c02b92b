"""The compliance check: what must hold for any version, whatever its quality; the outcome stays with the version."""

from penstock.registry.compliance.gate import GATE, check_compliance

__all__ = ["GATE", "check_compliance"]
