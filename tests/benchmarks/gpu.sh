#!/usr/bin/env bash
# What only a machine with a GPU can tell, in at most 8 minutes after installation, as one JSON file.
#
#   tests/benchmarks/gpu.sh [RESULT.json]
#
# PYTHON names the Python of an environment that has the package and its tools ('.[dev]'). Without it one is made in a
# temporary folder, from the package index, or without any network from the folder of wheels that WHEELS names. On a
# machine without a GPU every part goes as far as it can, and the result says what was not run and why.
set -euo pipefail
result=$(realpath -m "${1:-gpu.json}")
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
  environment=$(mktemp -d)
  trap 'rm -rf "$environment"' EXIT
  "$(command -v python3.11 || command -v python3)" -m venv "$environment"
  PYTHON=$environment/bin/python
  "$PYTHON" -m pip install --quiet --disable-pip-version-check ${WHEELS:+--no-index --find-links "$WHEELS"} --editable '.[dev]'
fi
# The result is written after each part: where the time ends first, those that are missing are named as not run.
PYTHONPATH=$PWD timeout --kill-after=10 480 "$PYTHON" tests/benchmarks/gpu.py "$result" --seconds 450 || [ $? -eq 124 ]
cat "$result"
