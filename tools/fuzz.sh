#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target of the repository for TIME each and
# prints one line per target. Fails on the first target that finds something.
set -euo pipefail
time=${1:-20s}
grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do
	dir=$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | awk '{print $2}' | while read -r target; do
		echo "== $dir $target"
		go test "$dir" -run '^$' -fuzz "^${target}\$" -fuzztime "$time" | grep -E 'elapsed|ok|FAIL' | tail -2
	done
done
