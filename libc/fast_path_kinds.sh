#!/bin/bash
# fast_path_kinds.sh ARGUMENTS -- fast_path_kinds.py for Bazel, which starts it
# at the top of the tree: as a test, and to write fast_path_kinds.txt anew.
exec /usr/bin/python3 libc/fast_path_kinds.py "$@"
