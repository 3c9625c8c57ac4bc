#!/usr/bin/env bash
# Runs every fuzz target of the module for the time (10s) or the number of inputs (5000x) given. Ends with the first that fails.
set -euo pipefail
go=${GO:-go}
budget=${1:-10s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fuzz() { # folder target budget
	"$go" test -run '^$' -fuzz "^$2\$" -fuzztime "$3" -fuzzminimizetime 10x "$1" 2>&1 | tee "$log"
}

# Until Go 1.27 a target can fail with nothing but "context deadline exceeded" when its time is up (golang.org/issue/75804): the
# coordinator compares with a context that is not cancelled yet. A number of inputs has no deadline, so it settles the question.
raced() {
	grep -qx '    context deadline exceeded' "$log" && ! grep -q 'Failing input written to' "$log"
}

# -r prints folder/file:func Name; a target needs folder and name.
grep -rHo --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[[:alnum:]_]*' . |
	sed 's|/[^/]*:func | |' | sort -u | while read -r folder target; do
	echo "$folder $target"
	if ! fuzz "$folder" "$target" "$budget"; then
		raced || exit 1
		fuzz "$folder" "$target" 2000x || exit 1
	fi
done
