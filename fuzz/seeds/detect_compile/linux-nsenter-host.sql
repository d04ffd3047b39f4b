process.name IN ('nsenter', 'busybox')
  AND process.command_line LIKE '%nsenter%'
  AND (regexp_like(process.command_line, '\s(-\w*t\s*|--target[= ])1(\s|$)')
    OR any_regexp_like(process.args, '=/(host/)?proc/1/ns/'))
