"""Inference: batch scoring and its sinks."""
