process.is_setuid AND process.file_owner = 0 AND process.uid <> 0
  AND (process.name IN ('sh', 'bash', 'dash', 'zsh', 'ksh', 'ash', 'csh', 'tcsh', 'fish',
      'busybox', 'env', 'find', 'cp', 'mv', 'dd', 'cat', 'tee', 'less', 'more', 'nano', 'vi',
      'awk', 'gawk', 'mawk', 'sed', 'tar', 'zip', 'rsync', 'git', 'gdb', 'strace', 'node', 'php',
      'nmap', 'tcpdump', 'docker', 'make', 'xargs', 'timeout', 'nice', 'taskset', 'chown',
      'chmod', 'curl', 'wget', 'openssl', 'systemctl', 'socat', 'nsenter', 'unshare', 'nc', 'ncat',
      'nvim', 'ed', 'ex', 'view', 'pico', 'expect', 'base64', 'xxd', 'od', 'head', 'tail', 'tac',
      'cut', 'sort', 'diff', 'install', 'ln', 'chroot', 'stdbuf', 'setpriv', 'capsh', 'flock',
      'watch', 'scp', 'pwsh', 'start-stop-daemon', 'run-parts')
    OR regexp_like(process.name, '^((php|python|pypy|perl|ruby|lua|luajit|tclsh|node|nodejs|guile)([-.]?\d|$)|(vim|emacs|nc|gdb)\b)'))
