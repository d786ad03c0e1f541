#!/bin/sh
# Makes the packages of a binary: build.sh BINARY NFPM DIRECTORY
set -eu
cd "$(dirname "$0")/.."
binary=$1 nfpm=$2 dist=$3

described=$(git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null || true)
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
if [ -n "$described" ]; then
	# v1.2.3-4-gabc is after 1.2.3.
	VERSION=$(printf '%s' "${described#v}" | tr - +)
else
	# Before whatever the first release is.
	VERSION=0.0.0~$(date -u -d "@$epoch" +%Y%m%d).$commit
fi
DATE=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
ARCH=$(go env GOARCH)
mkdir -p "$dist"
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT

# nfpm itself looks for variables in some values only.
sed -e "s|\${VERSION}|$VERSION|g; s|\${DATE}|$DATE|g; s|\${ARCH}|$ARCH|g; s|\${STAGE}|$STAGE|g" packaging/nfpm.yaml >"$STAGE/nfpm.yaml"
cp "$binary" "$STAGE/fairlead"
go run ./packaging/manual "$VERSION" "$DATE" "$STAGE"
gzip -9n "$STAGE"/man/*
mkdir "$STAGE/doc"
cp README.md CHANGELOG.md docs/*.md "$STAGE/doc/"
cp LICENSE "$STAGE/doc/copyright"

for format in deb rpm; do
	"$nfpm" package --config "$STAGE/nfpm.yaml" --packager "$format" --target "$dist" >/dev/null
done

name=fairlead-$VERSION-linux-$ARCH
mkdir "$STAGE/$name"
cp -r "$STAGE/fairlead" "$STAGE/man" "$STAGE/completions" "$STAGE/doc" packaging/fairlead.service packaging/fairlead.default "$STAGE/$name/"
tar --sort=name --mtime="$DATE" --owner=0 --group=0 --numeric-owner -C "$STAGE" -cf - "$name" | gzip -1n >"$dist/$name.tar.gz"
(cd "$dist" && sha256sum -- *.deb *.rpm *.tar.gz >SHA256SUMS)
ls "$dist"
