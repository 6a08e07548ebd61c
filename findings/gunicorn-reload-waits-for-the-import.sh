#!/usr/bin/env bash
# What one would guess: gunicorn's reload (SIGHUP) is graceful, so that the old workers answer until the new ones can.
# What happens: the old workers are told to end as soon as the new ones are forked, before these have imported the
# application. No request is refused, but all of them wait for as long as the import takes: here three seconds.
# Whom it hurts: whoever reloads a service that takes seconds to load, in the middle of a crowd.
# What helps: more workers with SIGTTIN, and once these answer, SIGTTOU, which ends the oldest ones.
# gunicorn 27.0.1 from PyPI, Python 3.11; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gunicorn==27.0.1
cat >service.py <<'PY'
import time

time.sleep(3)  # many modules, a model, a first connection


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
PY
longest() { # the longest answer within ten seconds, in whole seconds; REFUSED when one was none
    local until_s=$((SECONDS + 10)) most=0 took
    while [ $SECONDS -lt $until_s ]; do
        took=$(curl --silent --fail --output /dev/null --write-out '%{time_total}' --unix-socket "$work/socket" http://example.id/) || {
            echo REFUSED
            return
        }
        took=${took%.*}
        [ "$took" -le $most ] || most=$took
        sleep 0.05
    done
    echo $most
}

venv/bin/gunicorn --version
venv/bin/gunicorn --no-control-socket --workers 2 --bind "unix:$work/socket" service:application 2>log &
server=$!
until curl --silent --fail --unix-socket "$work/socket" http://example.id/ >/dev/null; do sleep 0.2; done
calm=$(longest)
(sleep 1 && kill -HUP "$server") &
reloading=$(longest)
echo "longest answer in a calm time: under $((calm + 1)) s"
echo "longest answer around a reload: $reloading s"
if [ "$calm" = 0 ] && [ "$reloading" != REFUSED ] && [ "$reloading" -ge 2 ]; then
    echo "As described."
else
    echo "The behaviour has changed."
    exit 1
fi
