#!/bin/sh
# fuzz.sh TIME PACKAGE TARGET: feeds one fuzz target for a while, on one CPU.
# What it finds is kept below PACKAGE/testdata/fuzz, and fails.
set -eu
echo "fuzzing $3 of $2 for $1"
exec go test "$2" -run '^$' -fuzz "^$3\$" -fuzztime "$1" -parallel 1
