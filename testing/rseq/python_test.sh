#!/bin/bash
# python_test.sh TEST.py ... -- runs a test of this folder with Debian's python3.
readonly PYTHON=/usr/bin/python3
if [[ ! -x "${PYTHON}" ]]; then
  echo "FAIL: ${PYTHON} is missing; ./setup.sh installs it" >&2
  exit 1
fi
exec "${PYTHON}" -B "$@"
