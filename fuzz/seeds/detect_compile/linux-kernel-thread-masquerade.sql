regexp_like(process.args[1], '^\[[a-zA-Z][\w/:.-]*\]$')
  OR regexp_like(process.comm, '^\[[a-zA-Z]')
