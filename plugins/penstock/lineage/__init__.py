"""Lineage: from sources over features and training sets to models and predictions, and back."""
