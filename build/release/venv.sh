#!/bin/bash
# Make the virtual environment that releases are frozen in: the release interpreter, and the packages of the everyday
# one that are in a binary or make it, in wheels that fit its glibc.
#
#   venv.sh VENV INTERPRETER REQUIREMENTS
#
# INTERPRETER is what interpreter.sh prints; of REQUIREMENTS it takes what stands above "# Checking". Every wheel has to
# fit its hash there.
set -euo pipefail

venv=$1 interpreter=$2 requirements=$3

grep -q '^# Checking' "$requirements" || { echo "${0##*/}: $requirements has no line \"# Checking\"" >&2 && exit 1; }
"$interpreter/python/bin/python3.13" -I -m venv --clear --without-pip "$venv"
sed '/^# Checking/,$d' "$requirements" >"$venv/requirements.txt"
# pip as CPython brings it: it has to run with that interpreter, which tells it what wheels fit
pip=$(echo "$interpreter"/pip/pip-*.whl)
"$venv/bin/python" -I "$pip/pip" --disable-pip-version-check install --quiet --require-hashes --only-binary :all: \
    --no-compile -r "$venv/requirements.txt"
