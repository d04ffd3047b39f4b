process.command_line LIKE '%release_agent%'
  AND (process.name IN ('tee', 'cp', 'dd')
    OR (process.name IN ('sh', 'bash', 'dash', 'ash', 'zsh', 'busybox', 'unshare')
      AND regexp_like(process.command_line, '>\s*["'']?\S*release_agent')))
