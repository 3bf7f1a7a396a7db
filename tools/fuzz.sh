#!/usr/bin/env bash
# fuzz.sh TIME [TARGETS]: runs the fuzz targets of the repository whose names match
# the extended regular expression TARGETS (default: all) for TIME each, and prints
# one line per target with its number of executions. Fails on the first target
# that finds something.
set -euo pipefail
time=${1:-20s}
targets=${2:-.}
grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do
	dir=$(dirname "$file")
	{ grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | awk '{print $2}' | grep -E "$targets" || true; } | while read -r target; do
		log=$(mktemp)
		# Shrinking an input that merely covers something new is bounded by tries, so
		# that the time goes into executions.
		if ! go test "$dir" -run '^$' -fuzz "^${target}\$" -fuzztime "$time" -fuzzminimizetime 10x >"$log" 2>&1; then
			# On a busy machine the tool itself may report the end of its time as a failure
			# (golang/go#75804). What a target finds comes with the input that shows it.
			if ! grep -qE '^ +context deadline exceeded$' "$log" || grep -qE 'Failing input|panic:|hung or terminated|minimizing' "$log"; then
				cat "$log"
				rm -f "$log"
				exit 1
			fi
		fi
		printf '%-28s %-22s %s\n' "$dir" "$target" "$(grep -oE 'execs: [0-9]+' "$log" | tail -1)"
		rm -f "$log"
	done
done
