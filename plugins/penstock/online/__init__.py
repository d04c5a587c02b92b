"""The online store: the newest value of each key of a feature table, for reading one key in under a millisecond."""
