process.exit_signal IN (4, 7, 8, 11, 31)
  AND regexp_like(process.executable, '^/(usr/(local/)?)?(bin|sbin|lib|libexec)/|^/opt/')
GROUP BY process.executable, SLIDING(event.time, INTERVAL '2' MINUTE)
HAVING count(*) >= 8
