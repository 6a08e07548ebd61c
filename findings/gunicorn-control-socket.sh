#!/usr/bin/env bash
# What one would guess: two gunicorn services of one account on one machine have nothing to do with each other.
# What happens: both open the same control socket, ~/.gunicorn/gunicorn.ctl. The second one replaces the socket of the first
# without a word, so that `gunicornc` then speaks to the second service; when that one stops, it removes the socket, and the
# first cannot be reached any more.
# Whom it hurts: whoever runs `gunicornc` for one service and reloads or counts another, such as on a machine where an old
# and a new release run side by side.
# What helps: `--control-socket` names one for each, `--no-control-socket` opens none.
# gunicorn 27.0.1 from PyPI, Python 3.11; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
started=()
trap 'for each in "${started[@]}"; do kill "$each" 2>/dev/null || true; done; wait; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gunicorn==27.0.1
cat >service.py <<'PY'
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
PY
export HOME="$work"
unset XDG_RUNTIME_DIR

start() { # NAME
    : >"$1.log"
    venv/bin/gunicorn --bind "unix:$work/$1" --pid "$work/$1.pid" service:application 2>"$1.log" &
    started+=($!)
    until grep -q "Control socket listening" "$1.log"; do sleep 0.1; done
    sleep 0.5
}
reached() { venv/bin/gunicornc -c "show stats" 2>/dev/null | sed -n 's/^PID: *//p' || true; }

venv/bin/gunicorn --version
start first
first=$(cat first.pid)
before=$(reached)
start second
second=$(cat second.pid)
beside=$(reached)
kill "$second"
while kill -0 "$second" 2>/dev/null; do sleep 0.1; done
after=$(reached)
echo "the first service is $first, the second $second"
echo "gunicornc reaches at first: $before"
echo "beside the second one: $beside"
echo "when the second has stopped: ${after:-none}"
if [ "$before" = "$first" ] && [ "$beside" = "$second" ] && [ -z "$after" ] && kill -0 "$first"; then
    echo "As described."
else
    echo "The behaviour has changed."
    exit 1
fi
