#!/bin/bash
# again.sh LOG: what is to be thought of the tests that failed in the output of
# `make test TESTFLAGS=-v`.
#
# Tests on a kernel wait for what it does in its own time, and beside hundreds of others
# on a small machine one may wait too short. Up to five tests that failed are run again,
# three times each and by themselves; all have to pass. They are named at the end
# whatever comes of it: a test that is here twice is mended, not run again. After a data
# race, a panic or a time-out nothing is run again.
set -euo pipefail
log=$1
say() { printf '\n== %s\n' "$*"; }

# PACKAGE TEST, a line each; TEST is - where no test says why the package failed.
failed=$(awk '
	/^--- FAIL: / { tests[++n] = $3 }
	/^(FAIL|ok)[ \t]+[^ \t]+[ \t]/ {
		if ($1 == "FAIL" && n == 0) print $2, "-"
		for (i = 1; i <= n; i++) print $2, tests[i]
		n = 0
	}' "$log")
say "failed:"
echo "${failed:-nothing that is known: see above}"
if grep -qE '^WARNING: DATA RACE|^panic: |^fatal error: ' "$log" || [ -z "$failed" ] || grep -q ' -$' <<<"$failed" || [ "$(wc -l <<<"$failed")" -gt 5 ]; then
	exit 1
fi
race=$(make --no-print-directory race-packages)
while read -r package test; do
	flags=(-count=3 -parallel 1 -timeout 10m)
	if grep -qxF "$package" <<<"$race"; then
		flags+=(-race)
	fi
	say "$test of $package, again"
	FAIRLEAD_BIN=$PWD/bin/fairlead go test "${flags[@]}" -run "^$test\$" "$package" </dev/null
done <<<"$failed"
say "these passed when they ran by themselves:"
echo "$failed"
