#!/bin/sh
# SPDX-License-Identifier: ISC
# Gives every fuzz target its seed corpus, tests/fuzz/corpus/NAME/. With libFuzzer the targets take files the same way.
status=77
total=0
for target in "${builddir:-.}"/tests/fuzz/fuzz_*; do
	case $target in *.c | *.o | *'*') continue ;; esac
	name=${target##*/fuzz_}
	corpus=${srcdir:-.}/tests/fuzz/corpus/$name
	set -- "$corpus"/*
	if [ ! -f "$1" ]; then
		echo "FAIL fuzz_$name: no corpus in $corpus"
		status=1
	elif "$target" "$@" >/dev/null 2>"${TMPDIR:-/tmp}/nsproxy-replay.$$"; then
		echo "PASS fuzz_$name: $# inputs"
		total=$((total + $#))
		[ "$status" = 77 ] && status=0
	else
		echo "FAIL fuzz_$name"
		cat "${TMPDIR:-/tmp}/nsproxy-replay.$$"
		status=1
	fi
	rm -f "${TMPDIR:-/tmp}/nsproxy-replay.$$"
done
[ "$status" = 77 ] && [ -n "$NSPROXY_MUST_WORK" ] && status=1
echo "$total inputs replayed"
exit "$status"
