#!/bin/sh
# Rules and history in /var/lib/pomelod stay, as configuration does.
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
exit 0
