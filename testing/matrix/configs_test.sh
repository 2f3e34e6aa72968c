#!/bin/bash
# configs_test.sh BAZELRC CONFIG:SETTING=VALUE... -- --config=CONFIG is there for
# each value of a setting, sets that value, and no other line sets any.
set -euo pipefail
readonly bazelrc=$1
shift

sets='^build:[^ ]+ --//bazel/config:(frontend|backend|page_size)='
diff <(printf 'build:%s\n' "${@/:/ --\/\/bazel\/config:}" | sort) \
  <(grep -E "$sets" "$bazelrc" | sort) || {
  echo "FAILED: configurations wanted (<) and there (>)"
  exit 1
}
echo "$# configurations"
