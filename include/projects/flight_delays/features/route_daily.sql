-- As carrier_daily, on a route. The schedule knows where a flight goes; the day is that of its outcome.
SELECT
  concat(flights.origin, '-', flights.dest) AS route,
  date_trunc('DAY', flight_outcomes.known_at) + INTERVAL 1 DAY AS event_time,
  avg(flight_outcomes.arr_delay) AS mean_arr_delay,
  avg(CASE WHEN flight_outcomes.arr_delay > 15 THEN 1.0D ELSE 0.0D END) AS share_late,
  count(*) AS flights
FROM flight_outcomes
JOIN flights
  ON flights.carrier = flight_outcomes.carrier
  AND flights.flight = flight_outcomes.flight
  AND flights.origin = flight_outcomes.origin
  AND flights.scheduled_departure = flight_outcomes.scheduled_departure
GROUP BY concat(flights.origin, '-', flights.dest), date_trunc('DAY', flight_outcomes.known_at) + INTERVAL 1 DAY
