#!/bin/bash
# startup_test.sh LIBRARY -- start-up memory and static TLS of a tcx library.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${TCX_BENCHMARKS_BIN:-$here}
exec /usr/bin/python3 "$here/startup_test.py" "$1" "$bin/measure" "$bin/startup"
