#!/bin/bash
# fast_paths.sh ARGUMENTS -- fast_paths.py for Bazel, which starts it at the top
# of the tree: as a test, and to write golden.txt anew.
exec /usr/bin/python3 benchmarks/icount/fast_paths.py "$@"
