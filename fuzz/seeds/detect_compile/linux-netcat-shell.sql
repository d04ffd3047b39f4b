(process.name IN ('nc', 'ncat', 'netcat', 'nc.traditional', 'nc.openbsd')
    AND (any_regexp_like(process.args, '^-[a-zA-Z0-9]*[ec]$')
      OR any_regexp_like(process.args, '^--(sh-|lua-)?exec(=|$)')))
  OR (process.name = 'busybox'
    AND (process.args[2] IN ('nc', 'netcat') OR basename(process.args[1]) IN ('nc', 'netcat'))
    AND any_regexp_like(process.args, '^-[a-z]*e$'))
  OR (process.name LIKE 'socat%'
    AND any_regexp_like(process.args, '^(exec|system|shell):.*\b(ba|da|z|k|a)?sh\b', 'i'))
