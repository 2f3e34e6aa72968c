#!/bin/sh
# generate_test.sh -- the committed tables are what generate.py computes.
#
# Method: regenerate in memory and compare; then check that a changed table is
# noticed. Usage: generate_test.sh path/to/generate.py
set -eu

generator=$1
python3 "$generator" --check

copy=${TEST_TMPDIR:-$(mktemp -d)}/size_classes
mkdir -p "$copy/generated"
cp -L "$generator" "$copy/generate.py"
cp -L "$(dirname "$generator")"/generated/*.inc "$copy/generated/"
chmod u+w "$copy"/generated/*.inc
echo "// changed by hand" >>"$copy/generated/p13_table.inc"
if python3 "$copy/generate.py" --check; then
  echo "generate.py --check did not notice a changed table" >&2
  exit 1
fi
echo "the committed tables are up to date"
