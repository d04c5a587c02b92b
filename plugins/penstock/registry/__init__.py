"""The model registry: stages, compliance, comparison, promotion, rollback, and the audit of all of them."""
