#!/usr/bin/env bash
# What one would guess: with `proxy_cache_valid 200 1s`, `proxy_cache_use_stale updating` and `proxy_cache_background_update
# on`, an answer from nginx is at most about a second old while the server behind it is well.
# What happens: a second is the age after which nginx asks again, not the age that it shows. The first request after a pause
# gets the last answer, as old as the pause (up to `inactive`), and only the next one gets the new answer.
# Whom it hurts: whoever caches what changes at a known moment. The first person after an opening reads "not open yet" as
# of half a minute before.
# What helps: without `proxy_cache_background_update` the first asker waits for the new answer.
# Debian 12's nginx 1.22.1-9+deb12u11, Python 3.11; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ ! -s "$work/nginx.pid" ] || kill "$(cat "$work/nginx.pid")"; [ -z "$server" ] || kill "$server"; wait; rm -rf "$work"' EXIT
cd "$work"
apt-get download --quiet -o APT::Sandbox::User=root nginx=1.22.1-9+deb12u11 >/dev/null
dpkg -x nginx_*.deb .

cat >count.py <<'PY'
import http.server
import socketserver

count = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global count
        count += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"answer {count}".encode())

    def address_string(self):
        return "socket"

    def log_message(self, *words):
        pass


socketserver.UnixStreamServer("back", Handler).serve_forever()
PY
configuration() { # on or off
    cat <<CONF
worker_processes 1;
pid $work/nginx.pid;
error_log $work/error.log;
events {}
http {
    access_log off;
    proxy_cache_path $work/cache-$1 keys_zone=one:1m inactive=30s;
    client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3; uwsgi_temp_path $work/t4;
    scgi_temp_path $work/t5;
    server {
        listen unix:$work/front-$1;
        location / {
            proxy_pass http://unix:$work/back:/;
            proxy_cache one;
            proxy_cache_valid 200 1s;
            proxy_cache_use_stale updating;
            proxy_cache_background_update $1;
        }
    }
}
CONF
}
ask() { curl --silent --unix-socket "$work/front-$1" http://example.id/queue; }

python3 count.py &
server=$!
until [ -S back ]; do sleep 0.1; done
chmod 711 . # for nginx's workers, where root starts them
chmod 666 back
usr/sbin/nginx -v 2>&1
for mode in on off; do
    configuration $mode >$mode.conf
    usr/sbin/nginx -e "$work/error.log" -c "$work/$mode.conf"
    first=$(ask $mode)
    sleep 5
    after=$(ask $mode)
    sleep 0.5
    next=$(ask $mode)
    echo "background update $mode: '$first', five seconds later '$after', then '$next'"
    [ $mode = off ] || kept="$first/$after/$next"
    kill "$(cat nginx.pid)"
    while [ -s nginx.pid ]; do sleep 0.1; done
done
if [ "$kept" = "answer 1/answer 1/answer 2" ] && [ "$first/$after" = "answer 3/answer 4" ]; then
    echo "As described."
else
    echo "The behaviour has changed."
    exit 1
fi
