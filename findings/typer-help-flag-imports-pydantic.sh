#!/usr/bin/env bash
# What one would guess: a command of Typer that takes nothing but a flag does not need pydantic, which Typer imports only when
# it converts a value ("lazy definition to avoid up-front costs" in its source).
# What happens: every command that is run imports it. The value of `--help` is None when it is not given; Typer skips the
# conversion of flags only for True and False, so it builds a pydantic adapter to convert the None. A command without the help
# flag does not import it.
# Whom it hurts: whoever writes small commands: importing pydantic took as long as all the rest of one.
# What helps: give the help flag the default False (`command.get_help_option(ctx).default`), or wait for another Typer.
# typer 0.29.2 and pydantic 2.14.3 from PyPI, Python 3.11; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check typer==0.29.2 pydantic==2.14.3
cat >command.py <<'PY'
import sys
from importlib.metadata import version

import typer

app = typer.Typer(add_completion=False)


@app.command(add_help_option=sys.argv.pop(1) == "with-help")
def hello(loud: bool = typer.Option(False, "--loud")) -> None:
    print("typer", version("typer"), "HELLO" if loud else "hello")
    print("pydantic imported:", "pydantic" in sys.modules)


app()
PY
with_help=$(venv/bin/python command.py with-help)
without_help=$(venv/bin/python command.py without-help)
printf 'with the help flag:\n%s\nwithout it:\n%s\n' "$with_help" "$without_help"
if [[ $with_help == *"imported: True"* && $without_help == *"imported: False"* ]]; then
    echo "As described."
else
    echo "The behaviour has changed."
    exit 1
fi
