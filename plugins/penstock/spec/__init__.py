"""What a project and an environment are: pydantic models, loading, validation. Imports nothing heavy."""
