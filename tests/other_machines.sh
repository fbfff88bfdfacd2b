#!/usr/bin/env bash
# The suite as it would go on other machines: other processors, threads, versions, orders, loads, languages.
#
#   tests/other_machines.sh [--out FOLDER] [CONDITION ...] [-- PYTEST ARGUMENTS]
#   tests/other_machines.sh --list
#
# Without conditions all of them, one after another (hours on two cores). Another processor is emulated by telling NumPy,
# Torch, oneDNN, OpenBLAS and MKL not to use what this one has; what cannot be emulated here is named as not run. Results lie
# in FOLDER (other_machines), a JUnit file and a log each, and end as the table for docs/other_machines.md. PYTHON names the
# environment's Python (.venv/bin/python); `oldest` and `newest` (PYTHON_NEWEST) install environments of their own.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
PYTHON_NEWEST=${PYTHON_NEWEST:-python3.13}
tool() { "$PYTHON" tests/other_machines.py "$@"; }
out=other_machines wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --list) tool list; exit ;;
    --out) out=$2; shift 2 ;;
    --) shift; break ;;
    *) wanted+=("$1"); shift ;;
  esac
done
[ ${#wanted[@]} -gt 0 ] || mapfile -t wanted < <(tool list)
mkdir -p "$out"

install() { # NAME BASE-PYTHON RESOLUTION: an environment of its own, kept for the next time
  command -v "$2" >/dev/null || { echo "there is no $2 here" >"$out/$1.notrun"; return 1; }
  [ -x "$out/$1/bin/pytest" ] && return
  echo "$1: installing (minutes) ..."
  { "$2" -m venv "$out/$1" && "$out/$1/bin/python" -m pip install --quiet uv &&
    "$out/$1/bin/uv" pip install --python "$out/$1/bin/python" --resolution "$3" --editable '.[dev]'; } >"$out/$1.install" 2>&1 ||
    { echo "its versions cannot be installed together here"; rm -rf "${out:?}/$1"; } >"$out/$1.notrun"
  [ -x "$out/$1/bin/pytest" ]
}

for name in "${wanted[@]}"; do
  rm -f "$out/$name".{xml,log,notrun,only}
  python=$PYTHON extra=() burners=()
  mapfile -t variables < <(tool variables "$name" 2>"$out/$name.notrun")
  if [ -s "$out/$name.notrun" ]; then echo "$name: not run, $(cat "$out/$name.notrun")"; continue; fi
  rm "$out/$name.notrun"
  case $name in
    # Old packages warn about the new ones below them; only with current ones is a warning an error.
    oldest) install oldest "$PYTHON" lowest-direct || continue; python=$out/oldest/bin/python extra=(-o filterwarnings=default) ;;
    newest) install newest "$PYTHON_NEWEST" highest || continue; python=$out/newest/bin/python ;;
    other-order) extra=(--random-order-seed=20261127) ;;
    burning) for _ in 1 2; do (while :; do :; done) & burners+=($!); done ;;
  esac
  echo "$name: ${variables[*]}"
  mapfile -t tests < <(tool tests "$name")
  [ $# -eq 0 ] || echo "$@" >"$out/$name.only"
  env OMP_NUM_THREADS=1 "${variables[@]}" "$python" -m pytest "${tests[@]}" -n 2 --dist loadfile -q -p no:cacheprovider \
    --junitxml="$out/$name.xml" "${extra[@]}" "$@" >"$out/$name.log" 2>&1
  tail -n 1 "$out/$name.log"
  [ ${#burners[@]} -eq 0 ] || { kill "${burners[@]}"; wait "${burners[@]}" 2>/dev/null; }
done
tool table "$out"
