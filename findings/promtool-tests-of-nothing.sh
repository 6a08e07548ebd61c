#!/usr/bin/env bash
# What one would guess: `promtool test rules` fails when a test names an alert that no rule file has, or a rule file that
# does not exist.
# What happens: a test that expects an alert not to fire passes when there is no such alert, so a misspelt name tests
# nothing. A rule file that does not exist is one line, "WARNING: no file match pattern", and the exit code is 0.
# Whom it hurts: whoever renames an alert or a file and trusts the tests beside it.
# What helps: for every alert, a test in which it fires.
# Debian 12's prometheus 2.42.0+ds-5+deb12u1; seen on 2026-11-29. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download --quiet -o APT::Sandbox::User=root prometheus=2.42.0+ds-5+deb12u1 >/dev/null
dpkg -x prometheus_*.deb .
cat >rules.yml <<'YML'
groups:
  - name: service
    rules:
      - {alert: NothingIsRecorded, expr: recorder_stalled == 1}
YML
cat >test.yml <<'YML'
rule_files: [rules.yml, no-such-file.yml]
tests:
  - interval: 1m
    input_series:
      - {series: recorder_stalled, values: 1 1 1}
    alert_rule_test:
      - {eval_time: 2m, alertname: NothingIsRecordd, exp_alerts: []}
YML
usr/bin/promtool --version 2>&1 | head -1
code=0
said=$(usr/bin/promtool test rules test.yml 2>&1) || code=$?
echo "$said"
echo "exit code: $code"
if [ "$code" = 0 ] && echo "$said" | grep -q SUCCESS && echo "$said" | grep -q "no file match pattern"; then
    echo "As described."
else
    echo "The behaviour has changed."
    exit 1
fi
