#!/bin/sh
# Makes sure that Node.js 18.3 or later and npm are here, for the interop tests. Installs Debian's packages where it may;
# elsewhere it says what to install and fails.
set -eu

have_node() {
	command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 &&
		node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 18 || a === 18 && b >= 3 ? 0 : 1)'
}

have_node && exit 0

install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing Node.js and npm for the interop tests"
	apt-get update -qq && install nodejs || true
	# Some builds of nodejs bring npm with them and refuse the package of that name.
	command -v npm >/dev/null 2>&1 || install npm || true
	have_node && exit 0
fi

found=$(node --version 2>/dev/null) || found=none
echo "The interop tests need Node.js 18.3 or later and npm (found: $found). Install them, on Debian as root: apt-get install nodejs npm" >&2
exit 1
