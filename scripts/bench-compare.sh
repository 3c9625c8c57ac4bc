#!/bin/sh
# Is this tree's pomelod slower than that of another revision? Builds both, measures them in interleaved rounds with this
# tree's load generator, and compares (bench/README.md).
#
#     scripts/bench-compare.sh REVISION          ROUNDS (7), TIME (5s) and MEMBERS (1000) by the environment
#
# Exit code: that of bench compare, or 2 when nothing could be measured.
set -eu

base=${1:?name a revision, as in: $0 HEAD~1}
: "${GO:=go}" "${ROUNDS:=7}" "${TIME:=5s}" "${MEMBERS:=1000}"

cd "$(dirname "$0")/.."
root=$(pwd)
tree=bin/compare-tree
out=bin/compare.jsonl
if ! commit=$(git rev-parse --verify --quiet "$base^{commit}"); then
	echo "bench-compare: git knows no revision $base" >&2
	exit 2
fi

remove() {
	if [ -e "$tree" ]; then
		git worktree remove --force "$tree" || rm -rf "$tree"
	fi
}
trap remove EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Without paths and versions in them, binaries differ only in what the revisions differ in.
build() {
	echo "bench-compare: building bin/pomelod-$2" >&2
	(cd "$1" && CGO_ENABLED=0 "$GO" build -trimpath -buildvcs=false -ldflags '-s -w' -o "$root/bin/pomelod-$2" ./cmd/pomelod) || exit 2
}

mkdir -p bin
remove # what a killed run may have left; --force, as only git may remember it
git worktree add --quiet --force --detach "$tree" "$commit" || exit 2
build "$tree" base
remove
build . head
CGO_ENABLED=0 "$GO" build -trimpath -buildvcs=false -o bin/bench ./bench || exit 2

# A void run (1) is for bench compare to tell of.
measure() {
	row=$1 scenario=$2
	shift 2
	bin/bench "$scenario" -row "$row" "$@" -rounds "$ROUNDS" -time "$TIME" -base base -out "$out" \
		-server 'base=timeout 900 bin/pomelod-base' -server 'head=timeout 900 bin/pomelod-head' >/dev/null || test $? -eq 1 || exit 2
}

rm -f "$out"
slices='-slices 8 -warm 200ms'
measure broadcast-w1 broadcast -members "$MEMBERS" -inflight 1 -wire tcp $slices
measure broadcast-w16 broadcast -members "$MEMBERS" -inflight 16 -wire tcp $slices
measure echo echo -conns 200 -wire tcp $slices
measure room-of-one broadcast -members 200 -rooms 200 -wire tcp $slices
measure rooms-20 rooms -rooms 500 -room-size 20 -rate 4000
bin/bench compare "$out"
