#!/bin/bash
# run_program_test.sh -- runs one Python test of this folder with Debian's
# python3, whatever else PATH offers (Bazel's own rule takes the first one).
#
# usage: run_program_test.sh TEST.py LIBRARY
readonly PYTHON=/usr/bin/python3

if [[ ! -x "${PYTHON}" ]]; then
  echo "FAIL: ${PYTHON} is missing; ./setup.sh installs it" >&2
  exit 1
fi
# -B: no __pycache__ in the source tree.
exec "${PYTHON}" -B "$@"
