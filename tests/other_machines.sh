#!/usr/bin/env bash
# The suite as it would go on other machines: other processors, threads, versions, orders, loads, languages.
#
#   tests/other_machines.sh [--out FOLDER] [CONDITION ...] [-- PYTEST ARGUMENTS]
#   tests/other_machines.sh --list
#
# Without conditions all of them, one after another (hours on two cores). An instruction set is emulated by telling NumPy,
# Torch, oneDNN, OpenBLAS and MKL not to use what this processor has; what cannot be emulated here is named as not run. The
# results lie in FOLDER (other_machines), one JUnit file and one log each, and end as a table for docs/other_machines.md.
# PYTHON names the environment's Python (.venv/bin/python). `oldest` and `newest` install environments of their own.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
PYTHON_NEWEST=${PYTHON_NEWEST:-python3.13}
TOOL=tests/other_machines.py
out=other_machines

# What this processor would choose, less the named sets; names differ between versions of NumPy.
numpy_without() { "$PYTHON" $TOOL numpy-features "$1"; }
has() { grep -qw "$1" /proc/cpuinfo; }

CONDITIONS="as-it-is numpy-no-avx512 numpy-no-avx2 torch-default torch-avx2 onednn-sse41 onednn-avx2 openblas-haswell
openblas-zen openblas-skylakex openblas-nehalem mkl-compatible all-oldest-instructions one-thread four-threads oldest newest
other-order burning locale"

# Sets `vars` (environment), `args` (pytest) and `why` (why it cannot run here, else empty) for a condition.
describe() {
  vars=(); args=(); why=""; threads=1; python=$PYTHON
  case $1 in
    as-it-is) ;;
    numpy-no-avx512) has avx512f || why="this processor has no AVX-512: the same as as-it-is"
      vars=(NPY_DISABLE_CPU_FEATURES="$(numpy_without avx512)") ;;
    numpy-no-avx2) vars=(NPY_DISABLE_CPU_FEATURES="$(numpy_without avx2)") ;;
    torch-default) vars=(ATEN_CPU_CAPABILITY=default) ;;
    torch-avx2) has avx512f || why="this processor has no AVX-512: the same as as-it-is"
      vars=(ATEN_CPU_CAPABILITY=avx2) ;;
    onednn-sse41) vars=(ONEDNN_MAX_CPU_ISA=SSE41) ;;
    onednn-avx2) has avx512f || why="this processor has no AVX-512: the same as as-it-is"
      vars=(ONEDNN_MAX_CPU_ISA=AVX2) ;;
    openblas-haswell) vars=(OPENBLAS_CORETYPE=Haswell) ;;
    openblas-zen) vars=(OPENBLAS_CORETYPE=Zen) ;;
    openblas-skylakex) has avx512f || why="this processor has no AVX-512, which these kernels need"
      vars=(OPENBLAS_CORETYPE=SkylakeX) ;;
    openblas-nehalem) vars=(OPENBLAS_CORETYPE=Nehalem) ;;
    mkl-compatible) vars=(MKL_CBWR=COMPATIBLE) ;;
    all-oldest-instructions)
      vars=(NPY_DISABLE_CPU_FEATURES="$(numpy_without avx2)" ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41
        OPENBLAS_CORETYPE=Nehalem MKL_CBWR=COMPATIBLE) ;;
    one-thread) ;;
    four-threads) threads=4 ;;
    oldest) python=$out/oldest/bin/python ;;
    newest) python=$out/newest/bin/python
      command -v "$PYTHON_NEWEST" >/dev/null || why="there is no $PYTHON_NEWEST here (PYTHON_NEWEST names another)" ;;
    other-order) args=(--random-order-seed=20261127 --random-order-bucket=module) ;;
    burning) ;;
    locale) vars=(LC_ALL=tr_TR.UTF-8 TZ=Pacific/Kiritimati)
      locale -a | grep -qi '^tr_TR.utf-\?8$' || vars=(LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 TZ=Pacific/Kiritimati) ;;
    *) echo "unknown condition '$1', expected one of: $(echo $CONDITIONS)" >&2; exit 2 ;;
  esac
}

install() { # NAME BASE-PYTHON [PIP ARGUMENTS]: an environment of its own, kept for the next time
  [ -x "$out/$1/bin/pytest" ] && return
  "$2" -m venv "$out/$1" && "$out/$1/bin/python" -m pip install --quiet --editable '.[dev]' "${@:3}"
}

wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --list) echo $CONDITIONS | tr ' ' '\n'; exit ;;
    --out) out=$2; shift 2 ;;
    --) shift; break ;;
    *) describe "$1"; wanted+=("$1"); shift ;;
  esac
done
[ ${#wanted[@]} -gt 0 ] || read -r -d '' -a wanted <<<"$CONDITIONS"
mkdir -p "$out"

for condition in "${wanted[@]}"; do
  describe "$condition"
  rm -f "$out/$condition".*
  if [ -z "$why" ]; then
    case $condition in
      oldest) "$PYTHON" $TOOL lower-bounds >"$out/oldest.bounds"
        install oldest "$PYTHON" --constraint "$out/oldest.bounds" >"$out/oldest.log" 2>&1 || why="cannot be installed here" ;;
      newest) install newest "$PYTHON_NEWEST" >"$out/newest.log" 2>&1 || why="cannot be installed here" ;;
    esac
  fi
  if [ -n "$why" ]; then
    echo "$why" >"$out/$condition.notrun"
    echo "$condition: not run, $why"
    continue
  fi
  burners=()
  if [ "$condition" = burning ]; then
    for _ in 1 2; do (while :; do :; done) & burners+=($!); done
  fi
  echo "$condition: ${vars[*]:-} $threads thread(s) ..."
  env OMP_NUM_THREADS=$threads "${vars[@]}" "$python" -m pytest -n 2 --dist loadfile -q -p no:cacheprovider \
    --junitxml="$out/$condition.xml" "${args[@]}" "$@" >>"$out/$condition.log" 2>&1
  tail -n 1 "$out/$condition.log"
  [ ${#burners[@]} -eq 0 ] || { kill "${burners[@]}"; wait "${burners[@]}" 2>/dev/null; }
done
"$PYTHON" $TOOL table "$out" $CONDITIONS
