#!/bin/sh
# vuln.sh: look for vulnerabilities that are known of what pomelod is built of and that it can reach (govulncheck). Where the program or its database cannot be had,
# as without internet, nothing is known, and that is no failure. GOVULNCHECK names the program's module, GO the toolchain.
set -u
said=$(mktemp)
trap 'rm -f "$said"' EXIT
if timeout 300 ${GO:-go} run "${GOVULNCHECK:?}" ./... >"$said" 2>&1; then # a database that does not answer is none
	tail -n 1 "$said"
elif grep -q '^exit status 3$' "$said"; then # of govulncheck: it has found something
	cat "$said" >&2
	exit 1
else
	echo "vulnerabilities are not looked for: govulncheck or its database cannot be had ($(tail -n 1 "$said"))" >&2
fi
