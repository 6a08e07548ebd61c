#!/usr/bin/env bash
# What one would guess: `stdnum.id.nik.is_valid` takes the NIK of every Indonesian.
# What happens: it takes none that was given out under a province code newer than its table of regions (id/loc.dat, from a
# source that is gone): North Kalimantan (65, since 2012) and West Papua, South Papua, Highland Papua and Southwest Papua
# (92, 93, 95, 96). It also names 91 West Papua, which the civil registry calls Papua, and takes days of birth past 71, such
# as 81 for the first of a month.
# Whom it hurts: whoever checks a form with it: citizens of five provinces are told that their number does not exist.
# What helps: a table of province codes of one's own, from Kepmendagri 300.2.2-2138/2025.
# python-stdnum 2.2 from PyPI, Python 3.11; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check python-stdnum==2.2
cat >look.py <<'PY'
import sys
from importlib.metadata import version

from stdnum.id import nik

IN_FORCE = "11 12 13 14 15 16 17 18 19 21 31 32 33 34 35 36 51 52 53 61 62 63 64 65 71 72 73 74 75 76 81 82 91 92 93 94 95 96"
# Regency 01 or 71 (the first city), district 01, born 1990-01-01, serial 0001.
taken = {code: any(nik.is_valid(f"{code}{regency}010101900001") for regency in ("01", "71")) for code in IN_FORCE.split()}
refused = [code for code, valid in taken.items() if not valid]
print("python-stdnum", version("python-stdnum"))
print("province codes in force:", len(taken), "refused:", " ".join(refused) or "none")
print("a day of birth of 81 is taken:", nik.is_valid("3578018101900001"))
is_as_described = refused == ["65", "92", "93", "95", "96"]
print("As described." if is_as_described else "The behaviour has changed.")
sys.exit(not is_as_described)
PY
venv/bin/python look.py
