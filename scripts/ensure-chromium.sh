#!/bin/sh
# Makes sure that Chromium is here, for the tests of the chat page. Installs Debian's package where it may; elsewhere it says
# what to install and fails.
set -eu

have_chromium() {
	[ -n "${CHROMIUM:-}" ] && [ -x "$CHROMIUM" ] || [ -x /usr/bin/chromium ] || [ -x /usr/bin/chromium-browser ]
}

have_chromium && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing Chromium for the tests of the chat page"
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null || true
	have_chromium && exit 0
fi

echo "The tests of the chat page need Chromium. Install it, on Debian as root: apt-get install chromium; or say in CHROMIUM where it is." >&2
exit 1
