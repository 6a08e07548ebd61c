#!/usr/bin/env bash
# What one would guess: `holidays.country_holidays("ID")` names the holidays of Indonesia in one language.
# What happens: without `language` the names follow the environment of the process. On a desk without LANG they are
# Indonesian; under LANG=C.UTF-8 or en_US.UTF-8, as in most containers and services, they are English.
# Whom it hurts: whoever shows or compares the names: a notice of closing in the wrong language, and a test that passes on
# one machine only.
# What helps: `language="id"` (or "en_US") makes it independent.
# holidays 0.109 from PyPI, Python 3.11; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check holidays==0.109
cat >name.py <<'PY'
import datetime as dt
import sys

import holidays

print(holidays.country_holidays("ID", years=2026, language=sys.argv[1] if sys.argv[1:] else None)[dt.date(2026, 8, 17)])
PY
echo "holidays $(venv/bin/python -c 'import holidays; print(holidays.__version__)')"
none=$(env -i venv/bin/python name.py)
container=$(env -i LANG=C.UTF-8 venv/bin/python name.py)
asked=$(env -i LANG=C.UTF-8 venv/bin/python name.py id)
echo "17 August 2026 without LANG: $none"
echo "under LANG=C.UTF-8: $container"
echo "the same with language='id': $asked"
if [ "$none" = "Hari Kemerdekaan Republik Indonesia" ] && [ "$container" = "Independence Day" ] && [ "$asked" = "$none" ]; then
    echo "As described."
else
    echo "The behaviour has changed."
    exit 1
fi
