#!/bin/bash
# wrong_use_test.sh -- runs a Python test of this folder with Debian's python3.
#
# usage: wrong_use_test.sh TEST.py ARGUMENT...
exec /usr/bin/python3 -B "$@"
