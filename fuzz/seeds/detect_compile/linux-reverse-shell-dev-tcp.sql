(process.command_line LIKE '%/dev/tcp/%' OR process.command_line LIKE '%/dev/udp/%')
  AND process.name IN ('bash', 'sh', 'dash', 'zsh', 'ksh')
  AND regexp_like(process.command_line,
    'sh\s+-\w*i\b|0[<>]&\s*\d|<&\s*\d+\s+>&\s*\d+|<&\s*\d+\s*\|\s*while\s+read\b[^\n]*(\$\w+|eval\b[^\n]*|sh\b[^\n]*)\s*(2?>&\s*\d|\|)|while\s+read\b[^\n]*<&\s*\d[^\n]*(do\s+["'']?\$|eval\b|\bsh\b)|exec\s+\d+<>\s*/dev/(tcp|udp)/[^\n]*(\bsh\b|eval|\$line|`)')
