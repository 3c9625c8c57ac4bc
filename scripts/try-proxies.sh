#!/bin/sh
# Tries the configurations of nginx, HAProxy and Caddy in docs/OPERATIONS.md before the pomelod that is its argument: on free
# ports of this machine, in the foreground and in temporary directories. It installs nothing: Debian starts what it installs.
set -eu
POMELOD=$(realpath "${1:?say which pomelod to try: scripts/try-proxies.sh bin/pomelod}")
PATH=$PATH:/usr/sbin # where Debian has them, and only root looks
export POMELOD PATH
cd "$(dirname "$0")/../interop"

for tool in nginx haproxy caddy openssl; do
	command -v "$tool" >/dev/null && continue
	echo "There is no $tool. On Debian: apt-get install nginx-light libnginx-mod-stream haproxy caddy openssl" >&2
	exit 1
done

nginx -v
haproxy -v | head -n 1
echo "Caddy version: $(caddy version)"
exec timeout 600 node --test --test-reporter=spec proxies/try.js
