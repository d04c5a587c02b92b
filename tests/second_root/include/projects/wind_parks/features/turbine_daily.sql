SELECT
  park,
  turbine,
  date_trunc('DAY', known_at) + INTERVAL 1 DAY AS event_time,
  avg(energy) AS mean_energy,
  count(*) AS slots
FROM yields
GROUP BY park, turbine, date_trunc('DAY', known_at)
