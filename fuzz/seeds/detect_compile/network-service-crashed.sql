process.exit_signal IN (4, 7, 8, 11, 31)
  AND (process.name IN ('sshd', 'sshd-session', 'nginx', 'apache2', 'httpd', 'lighttpd', 'caddy',
      'named', 'unbound', 'dnsmasq', 'exim4', 'postfix', 'smtpd', 'dovecot', 'imap-login', 'smbd',
      'vsftpd', 'proftpd', 'mysqld', 'mariadbd', 'postgres', 'redis-server', 'memcached',
      'haproxy', 'squid', 'cupsd', 'rpcbind', 'snmpd', 'openvpn', 'slapd')
    OR process.name LIKE 'php-fpm%')
