#!/bin/sh
# Nothing is enabled or started: on what port, for whom and with which limits is the operator's to say first. A service that runs has the new binary by
# `pomelod upgrade`, which keeps its clients.
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
exit 0
