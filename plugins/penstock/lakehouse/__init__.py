"""The lakehouse: addresses, Spark Connect sessions, Delta tables and their history."""
