#!/usr/bin/env bash
# settings_test.sh -- a page of docs/ is what its tool prints.
# usage: settings_test.sh TOOL PAGE
set -euo pipefail
diff -u "$2" <("$1") || {
  echo "FAILED: bazel run //tools:$(basename "$1") >docs/$(basename "$2")"
  exit 1
}
