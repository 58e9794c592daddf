#!/usr/bin/env bash
# Puts promtool and amtool, of Debian's packages, into .venv/promtool: tests/deploy tests
# the alert rules with them. Nothing is installed or started.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v promtool >/dev/null && command -v amtool >/dev/null && exit 0
test -x .venv/promtool/promtool && exit 0
mkdir -p .venv/promtool
into=$(realpath .venv/promtool)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq prometheus prometheus-alertmanager 2>/dev/null ||
  { apt-get update -qq; apt-get download -qq prometheus prometheus-alertmanager; }
for package in *.deb; do dpkg -x "$package" .; done
install usr/bin/promtool usr/bin/amtool "$into"
