#!/bin/sh
# Looks up known vulnerabilities of requirements.lock: sh deploy/audit.sh PIP-AUDIT [ITS ARGUMENTS]
# Where a service cannot be reached, pip-audit may skip every package and find nothing, so it has to know one first.
set -eu
cd "$(dirname "$0")/.."

known=$(mktemp)
trap 'rm -f "$known"' EXIT
echo "jinja2==2.10" >"$known" # CVE-2019-10906
if ! "$@" --disable-pip --no-deps --progress-spinner off --requirement "$known" 2>/dev/null | grep -q "^jinja2 .*2\.10 "; then
  echo "audit: no vulnerability service answers here; pip-audit needs https to PyPI's JSON interface," \
    "or to another one: make audit ARGS='--vulnerability-service osv'" >&2
  exit 1
fi

"$@" --disable-pip --require-hashes --strict --progress-spinner off --requirement requirements.lock
