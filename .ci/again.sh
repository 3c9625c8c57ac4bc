#!/usr/bin/env bash
# again.sh LOG [FLAGS…]: runs the Go tests once more, each alone, of which LOG says that they failed. CI's machine is shared, and a test that was not given a processor for
# seconds says nothing about the code. What fails twice has failed. Nothing is forgiven that no busy machine explains: a data race, a panic, a package that does not build or
# ends without saying which test failed, and more than three tests.
set -euo pipefail
log=$1
shift
# As make compiles, or all would be compiled anew for one test.
export CGO_ENABLED=0 GOFLAGS="$(go env GOFLAGS) -trimpath"
[[ " $* " != *" -race "* ]] || export CGO_ENABLED=1

if grep -qE '^WARNING: DATA RACE|^(panic|fatal error): |\[(build|setup) failed\]|panic: test timed out' "$log"; then
	exit 1
fi
# A package says what failed in it, then its own line.
failed=$(awk '
	/^--- FAIL: / { names[n++] = $3 }
	/^FAIL\t/ { if (n == 0) print "?", $2; for (i = 0; i < n; i++) print names[i], $2; n = 0 }
	/^ok  \t/ { n = 0 }' "$log" | sort -u)
count=$(grep -c . <<<"$failed" || true)
((count > 0 && count <= 3)) || exit 1
if grep -q '^?' <<<"$failed"; then
	exit 1
fi
while read -r name package; do
	dir=.
	[[ $package != */test/fleet* ]] || dir=test/fleet # a module of its own
	echo "$name of $package failed: once more, alone."
	out=$(cd "$dir" && go test -count=1 -vet=off -timeout 20m "$@" -run "^$name\$" "$package" 2>&1) || {
		echo "$out"
		exit 1
	}
	[[ $out != *"no tests to run"* ]] || exit 1
	echo "Passed only at the second try, alone: $name of $package"
done <<<"$failed"
