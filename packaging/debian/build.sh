#!/bin/sh
# Builds the .deb, without a network; the same bytes from the same tree.
#   packaging/debian/build.sh [WHEEL]
# Into dist/, or into $DIST; without a WHEEL, the newest that lies there is taken, or one is built.
set -eu
umask 022
here=$(dirname "$(readlink -f "$0")")
root=$here/../..
dist=${DIST:-$root/dist}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH DIST="$dist"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
share=$tree/usr/share

"$here/../source-folder.sh" "$share/qlora-studio" "$@"
version=$(cut -d- -f1 "$share/qlora-studio/edition")
"$here/../linux/desktop-files.sh" "$tree/usr" /usr/share/qlora-studio /usr/bin/python3 "$version"

mkdir -p "$share/doc/qlora-studio" "$share/man/man1" "$share/lintian/overrides" "$tree/DEBIAN"
cp "$here/copyright" "$share/doc/qlora-studio"
cp "$here/lintian-overrides" "$share/lintian/overrides/qlora-studio"
{
  printf 'qlora-studio (%s) stable; urgency=medium\n\n  * See CHANGELOG.md of the program.\n\n' "$version"
  printf ' -- QLoRA Studio developers  %s\n' "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n > "$share/doc/qlora-studio/changelog.gz"
for page in "$here"/*.1; do gzip -9nc "$page" > "$share/man/man1/$(basename "$page").gz"; done

size=$(du -sk --apparent-size "$tree/usr" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$size/" "$here/control.in" > "$tree/DEBIAN/control"
(cd "$tree" && find usr -type f | LC_ALL=C sort | xargs md5sum) > "$tree/DEBIAN/md5sums"
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$dist"
dpkg-deb --root-owner-group -Zxz --build "$tree" "$dist/qlora-studio_${version}_all.deb"
