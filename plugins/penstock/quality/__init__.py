"""Data quality: suites of expectations, validated by Great Expectations; quarantine; reports."""
