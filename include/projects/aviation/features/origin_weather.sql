-- An hour's observation is complete, and so usable, when the hour is over.
SELECT
  origin,
  time_hour + INTERVAL 1 HOUR AS event_time,
  temp,
  dewp,
  humid,
  wind_speed,
  precip,
  pressure,
  visib
FROM weather
