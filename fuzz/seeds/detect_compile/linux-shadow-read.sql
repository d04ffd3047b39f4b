((any_regexp_like(process.args, '(^|[=@:])(/\S*)?/etc/(g?shadow(-|\.\S+)?|master\.passwd)($|;)')
    AND (process.name IN ('cat', 'tac', 'nl', 'less', 'more', 'head', 'tail', 'grep', 'egrep', 'awk',
      'gawk', 'mawk', 'sed', 'cut', 'sort', 'cp', 'mv', 'dd', 'tee', 'base64', 'base32', 'xxd', 'od',
      'hexdump', 'strings', 'vi', 'nano', 'scp', 'rsync', 'curl', 'wget', 'nc', 'openssl', 'xargs',
      'diff', 'unshadow', 'tar', 'zip', 'gzip', '7z')
      OR process.name LIKE 'vim%' OR process.name LIKE 'nc.%'))
    OR (process.name = 'getent' AND process.args[2] IN ('shadow', 'gshadow'))
    OR ((process.name LIKE 'python%' OR process.name LIKE 'perl%' OR process.name LIKE 'php%'
        OR process.name LIKE 'ruby%')
      AND any_regexp_like(process.args, '(open|file|read|readfile)\w*[\s(]+["'']/etc/shadow')))
  AND parent.args[2] LIKE '/etc/cron.daily/passwd' IS NOT TRUE
