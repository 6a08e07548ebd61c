#!/usr/bin/env bash
# What one would guess: a repeating appointment whose start and end of repeating are both in Asia/Jakarta becomes a calendar
# file that other programs can read.
# What happens: icalendar writes DTSTART with its zone and UNTIL as a bare local time. RFC 5545 (3.3.10) wants UNTIL in UTC
# where DTSTART has a zone; python-dateutil refuses the rule, and a program that reads UNTIL as UTC has the last days wrong.
# Whom it hurts: whoever offers opening hours or a series of appointments as a calendar.
# What helps: an UNTIL that is given in UTC is written with its Z.
# icalendar 7.3.0 and python-dateutil 2.9.0.post0 from PyPI, Python 3.11; seen on 2026-11-29.
# Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check icalendar==7.3.0 python-dateutil==2.9.0.post0 tzdata
cat >look.py <<'PY'
import datetime as dt
import sys
from importlib.metadata import version
from zoneinfo import ZoneInfo

import icalendar
from dateutil.rrule import rrulestr

ZONE = ZoneInfo("Asia/Jakarta")
START, UNTIL = dt.datetime(2026, 12, 1, 8, tzinfo=ZONE), dt.datetime(2026, 12, 5, 8, tzinfo=ZONE)


def rule_of(until):
    event = icalendar.Event()
    event.add("dtstart", START)
    event.add("rrule", {"freq": "daily", "until": until})
    lines = event.to_ical().decode().splitlines()
    return next(line for line in lines if line.startswith("DTSTART")), next(line for line in lines if "RRULE" in line)


def read(rule):
    try:
        return f"{len(list(rrulestr(rule, dtstart=START)))} days"
    except ValueError as error:
        return str(error)


print("icalendar", version("icalendar"), "python-dateutil", version("python-dateutil"))
start, local = rule_of(UNTIL)
_, in_utc = rule_of(UNTIL.astimezone(dt.timezone.utc))
print(start)
print("UNTIL in the zone:", local, "->", read(local))
print("UNTIL in UTC:", in_utc, "->", read(in_utc))
is_as_described = local.endswith("UNTIL=20261205T080000") and "UTC" in read(local) and read(in_utc) == "5 days"
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
