-- A flight counts on the UTC day on which its outcome became known; usable from the end of that day.
SELECT
  carrier,
  date_trunc('DAY', known_at) + INTERVAL 1 DAY AS event_time,
  avg(arr_delay) AS mean_arr_delay,
  avg(CASE WHEN arr_delay > 15 THEN 1.0D ELSE 0.0D END) AS share_late,
  count(*) AS flights
FROM flight_outcomes
GROUP BY carrier, date_trunc('DAY', known_at) + INTERVAL 1 DAY
