#!/bin/bash
# threads_test.sh LIBRARY -- a thousand threads need no more than 1.2 times the
# memory that one thread needs for the same live data.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${TCX_BENCHMARKS_BIN:-$here}
exec /usr/bin/python3 "$here/threads.py" --bin-dir "$bin" --check 1.2 1000 "$1"
