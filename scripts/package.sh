#!/bin/sh
# package.sh ARCH BINARY VERSION OUT: make a tarball, a deb and an rpm of a pomelod that was built for ARCH (amd64, arm64), in OUT. The same files give the same
# bytes: names are in order, times are those of the last commit (SOURCE_DATE_EPOCH), and owners are root. TOOL is a pomelod that runs on this machine, for the
# manual and the completions. Without nfpm, which NFPM names, there are no deb and rpm, and a sentence says so.
set -eu
arch=$1 binary=$2 version=$3 out=$4
tool=${TOOL:-$binary}
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root" "$out"

make -s --no-print-directory install BINARY="$binary" DESTDIR="$root" PREFIX=/usr
man=$root/usr/share/man/man1
mkdir -p "$man" "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/site-functions" "$root/usr/share/fish/vendor_completions.d" "$root/usr/share/doc/pomelod"
"$tool" man >"$man/pomelod.1"
for command in $("$tool" help | sed -n 's/^  pomelod \([a-z]*\).*/\1/p'); do
	"$tool" man "$command" >"$man/pomelod-$command.1"
done
gzip -9 -n "$man"/*.1
"$tool" completion bash >"$root/usr/share/bash-completion/completions/pomelod"
"$tool" completion zsh >"$root/usr/share/zsh/site-functions/_pomelod"
"$tool" completion fish >"$root/usr/share/fish/vendor_completions.d/pomelod.fish"
${GO:-go} run ./deploy/pack licences -out "$root/usr/share/doc/pomelod/licences.txt"
cp LICENSE "$root/usr/share/doc/pomelod/copyright"
cp README.md CHANGELOG.md docs/*.md docs/openapi.json "$root/usr/share/doc/pomelod/"
find "$root/usr" -type f ! -path "*/bin/pomelod" -exec chmod 644 {} +
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

name=pomelod-$version-linux-$arch
tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=ustar --transform="s|^\.|$name|" -cf - . | gzip -9 -n >"$out/$name.tar.gz"

# A version of packages begins with a digit; what is no release sorts before all of them.
case $version in
v[0-9]*) package=${version#v} ;;
[0-9]*.*) package=$version ;;
*) package=0~$version ;;
esac
package=$(printf %s "$package" | tr -- - .)
if ! ${NFPM:-nfpm} --version >/dev/null 2>"$work/why"; then
	echo "no deb and rpm for $arch: nfpm cannot be had ($(tail -n 1 "$work/why"))" >&2
	exit 0
fi
sed "s|@ROOT@|$root|; s|@ARCH@|$arch|; s|@VERSION@|$package|" deploy/package/nfpm.yaml >"$work/nfpm.yaml"
for kind in deb rpm; do
	${NFPM:-nfpm} package -f "$work/nfpm.yaml" -p "$kind" -t "$out/$name.$kind" >"$work/said" || { cat "$work/said" >&2; exit 1; }
done
