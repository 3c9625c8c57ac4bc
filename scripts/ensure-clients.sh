#!/bin/sh
# Makes sure that what the interop clients that are not JavaScript need is here: a C compiler with libuv, jansson and zlib, and
# Python with python-socketio and websocket-client. Installs Debian's packages where it may; elsewhere it says what to
# install and fails.
set -eu

python=${INTEROP_PYTHON:-/usr/bin/python3}
packages="gcc libc6-dev libuv1-dev libjansson-dev zlib1g-dev python3 python3-socketio python3-engineio python3-requests python3-websocket"

have_c() {
	printf '#include <uv.h>\n#include <jansson.h>\n#include <zlib.h>\nint main(void) { return 0; }\n' |
		gcc -x c -o /dev/null - -luv -ljansson -lz 2>/dev/null
}

# Some module of the name websocket is not websocket-client.
have_python() {
	"$python" -c 'import requests, socketio, websocket; websocket.create_connection' 2>/dev/null
}

have_c && have_python && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing libraries of C and Python for the interop tests"
	# shellcheck disable=SC2086 # a list of words
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null || true
	have_c && have_python && exit 0
fi

echo "The interop tests need libraries of C and of Python (or of the Python that INTEROP_PYTHON names). Install them, on Debian as root: apt-get install $packages" >&2
exit 1
