#!/bin/sh
# walk.sh counts the functions and files of ours that one thing passes: an enter, a send, the close of a member's connection, and a GET
# of a client that polls. Each runs in router's test world (TestWalk), once with it and once without, and what was called more often counts.
# Sockets are made of memory there, so netpoll/epoll_linux.go is not in it. With -v it names the functions.
set -eu
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
go test -c -covermode=count -coverpkg=./... -o "$out/test" ./router
for walk in none enter send get close; do
	(cd router && POMELOD_WALK=$walk "$out/test" -test.run '^TestWalk$' -test.coverprofile="$out/$walk" >/dev/null)
done
for walk in enter send get close; do
	awk 'NR == FNR { before[$1] = $3; next } FNR == 1 { print; next } { print $1, $2, ($3 > before[$1]) ? 1 : 0 }' "$out/none" "$out/$walk" >"$out/more"
	go tool cover -func="$out/more" | grep -v 'looptest/\|internal/seed\|^total' | awk '$NF != "0.0%"' >"$out/passed"
	echo "$walk: $(wc -l <"$out/passed") functions in $(cut -d: -f1 "$out/passed" | sort -u | wc -l) files"
	if [ "${1:-}" = -v ]; then sed 's/^/    /' "$out/passed"; fi
done
