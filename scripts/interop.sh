#!/usr/bin/env bash
# Drives POMELOD with the real clients of interop/: each file of tests in a run of its own, AT once (default: as many as there are processors), as most of them wait most of the
# time. After that come those, one at a time, that keep all processors busy or judge how soon a client gets on.
# With CI set, a file that fails is run once more, alone, where at most three have failed: hundreds of clients share a machine with others, and one that
# was not given the processor for seconds says nothing about the server. What fails twice fails; what passed at the second try is named, and its test
# wants mending.
set -euo pipefail
cd "$(dirname "$0")/../interop"

at=${AT:-$(nproc)}
alone='^(browser/(crowd|large)|test/(crowd|cuts|deaths|upgrade|sio/(leave|under-fire)))\.test\.js$'
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# try FILE DIR: its output is shown whole when it has ended, as several run at once. A file that never ends is ended after a quarter of an hour: the longest takes three minutes.
try() {
	local log="$2/${1//\//-}.log" rc=0
	timeout -k 10 900 node --test --test-reporter=spec "$1" >"$log" 2>&1 || rc=$?
	cat "$log"
	((rc == 0)) || echo "$1" >>"$2/failed"
}
export -f try

mapfile -t files < <(find . -name '*.test.js' -not -path '*/node_modules/*' -printf '%P\n' | sort)
mkdir "$out/first" "$out/second"
several() { xargs -r -d '\n' -P "$1" -I{} bash -c 'try "$1" "$2"' _ {} "$out/first"; }
printf '%s\n' "${files[@]}" | { grep -vE "$alone" || true; } | several "$at"
printf '%s\n' "${files[@]}" | { grep -E "$alone" || true; } | several 1

failed=()
[[ ! -e $out/first/failed ]] || mapfile -t failed < <(sort "$out/first/failed")
late=()
if ((${#failed[@]} > 0 && ${#failed[@]} <= 3)) && [[ ${CI:-} ]]; then
	for file in "${failed[@]}"; do
		echo "$file failed: once more, alone."
		try "$file" "$out/second"
		mv "$out/second/${file//\//-}.log" "$out/first/"
		grep -qxF "$file" "$out/second/failed" 2>/dev/null || late+=("$file")
	done
	failed=()
	[[ ! -e $out/second/failed ]] || mapfile -t failed <"$out/second/failed"
fi

# The lines that node prints at the end of one run, of all. They begin with # or, from Node 23 on, with ℹ.
for kind in tests pass fail cancelled skipped todo; do
	sed -nE "s/^(#|ℹ) $kind ([0-9]+)$/\2/p" "$out"/first/*.log | awk -v kind=$kind '{ n += $1 } END { print "# " kind " " n + 0 }'
done
((${#late[@]} == 0)) || printf 'Passed only at the second try, alone: %s\n' "${late[@]}"
if ((${#failed[@]} > 0)); then
	printf 'FAIL: interop/%s\n' "${failed[@]}"
	exit 1
fi
