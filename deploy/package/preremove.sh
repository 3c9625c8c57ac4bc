#!/bin/sh
# The last argument tells a removal (deb: remove; rpm: 0) from an upgrade, in which the service goes on.
case "$1" in
remove | 0)
	if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now pomelod.service pomelod.socket || true
		systemctl stop 'pomelod@*.service' || true # nodes of a fleet
	fi
	;;
esac
exit 0
