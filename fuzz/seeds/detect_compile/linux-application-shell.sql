process.name IN ('sh', 'bash', 'dash', 'zsh', 'ksh', 'ash', 'busybox')
  AND (process.uid BETWEEN 1 AND 999 OR process.uid = 65534)
  AND (parent.name IN ('java', 'node', 'nodejs') OR parent.name LIKE 'python%'
    OR parent.name LIKE 'ruby%')
  AND any_regexp_like(parent.args,
    'jenkins|hudson|remoting\.jar|teamcity|bamboo|hadoop|buildbot|gitlab|supervisord|(^|/)(npm|npx|yarn|pnpm)(-cli\.js|\.c?js)?$|/AnsiballZ_\w+\.py$',
    'i') IS NOT TRUE
  AND regexp_like(process.command_line,
    '^\S+ -c (-- )?((command -v|which|type|hash) (-- )?''?[\w.+-]+''?|(/usr(/local)?/s?bin/|/s?bin/)?[\w.+-]+ --?version)( ?>/dev/null)?( 2>(&1|/dev/null))? *$') IS NOT TRUE
