#!/bin/sh
# Builds the archive for any Linux: what install.sh needs, without a network; the same bytes from the same tree.
#   packaging/linux/build.sh [WHEEL]
# Into dist/, or into $DIST; without a WHEEL, the newest that lies there is taken, or one is built.
set -eu
umask 022
here=$(dirname "$(readlink -f "$0")")
root=$here/../..
dist=${DIST:-$root/dist}
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
export DIST="$dist"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

"$here/../source-folder.sh" "$tree/package" "$@"
name=qlora-studio-$(cut -d- -f1 "$tree/package/edition")
mkdir "$tree/$name"
mv "$tree/package" "$tree/$name"
cp "$here/install.sh" "$here/desktop-files.sh" "$here"/qlora-studio* "$root/resources/icons/qlora-studio.svg" \
  "$root/LICENSE" "$tree/$name"
mkdir -p "$dist"
tar --create --directory "$tree" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --format=gnu "$name" \
  | gzip -9n > "$dist/$name-linux.tar.gz"
