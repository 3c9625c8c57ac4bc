#!/bin/sh
# Runs an arm64 binary of pomelod under qemu-user: it starts, two clients find it by its gate, enter a room and talk, commands ask it, and SIGTERM ends it in order.
# Installs Debian's qemu-user-static where it may; where there is no qemu-user it says so, and that nothing was tried.
#
#     scripts/arm64-run.sh BINARY
set -eu

binary=${1:?name an arm64 binary}
: "${GO:=go}"
cd "$(dirname "$0")/.."

qemu() {
	command -v qemu-aarch64-static || command -v qemu-aarch64
}

if ! qemu >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing qemu-user-static to run arm64"
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-user-static >/dev/null; } || true
fi
if ! qemu=$(qemu); then
	echo "arm64 is compiled only, and was not run: there is no qemu-user here. On Debian: apt-get install qemu-user-static" >&2
	exit 0
fi

dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
log="$dir/log"

"$qemu" "$binary" -version
"$qemu" "$binary" -listen 127.0.0.1:0 -gate 127.0.0.1:0 -admin 127.0.0.1:0 -admin-socket "$dir/admin.sock" -loops 2 -drain 100ms 2>"$log" &
pid=$!

# Emulated, and perhaps on a busy machine: it may take its time.
i=0
until grep -q '"msg":"ready"' "$log"; do
	i=$((i + 1))
	if [ $i -gt 600 ] || ! kill -0 "$pid" 2>/dev/null; then
		cat "$log" >&2
		echo "the arm64 binary does not get ready" >&2
		exit 1
	fi
	sleep 0.1
done

gate=$(sed -n 's/.*"msg":"listening".*"id":"gate","addr":"\([^"]*\)".*/\1/p' "$log")
"$GO" run ./examples/twoclients -gate "$gate"
"$qemu" "$binary" rooms -admin-socket "$dir/admin.sock"
"$qemu" "$binary" top -count 1 -admin-socket "$dir/admin.sock" >"$dir/top" # not into a pipe, which would hide that it fails
head -n 3 "$dir/top"

kill -TERM "$pid"
if ! wait "$pid"; then
	cat "$log" >&2
	echo "it does not end in order" >&2
	exit 1
fi
pid=
if grep '"level":"ERROR"' "$log"; then
	echo "it has complained" >&2
	exit 1
fi
echo "arm64: $binary runs under $qemu"
