process.name IN ('whoami', 'id', 'groups', 'uname', 'hostname', 'w', 'who', 'last', 'lastlog',
    'ifconfig', 'ip', 'arp', 'route', 'netstat', 'ss', 'getent', 'lscpu', 'lsb_release', 'crontab',
    'env', 'printenv', 'sudo')
  AND (process.uid BETWEEN 1 AND 999 OR process.uid = 65534)
  AND coalesce(process.user, '') NOT IN ('zabbix', 'nagios', 'nrpe', 'icinga', 'telegraf',
    'dd-agent', 'prometheus', 'node_exporter', 'netdata', 'puppet', 'chef', 'landscape', 'jenkins')
GROUP BY parent.entity_id, process.uid, SLIDING(event.time, INTERVAL '1' MINUTE)
HAVING count(DISTINCT process.name) >= 5
