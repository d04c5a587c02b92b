-- The register does not say when an entry was made: it is usable at any time.
SELECT
  tailnum,
  timestamp '1970-01-01 00:00:00 UTC' AS event_time,
  year AS year_built,
  seats,
  engines,
  manufacturer
FROM planes
