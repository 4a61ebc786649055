#!/bin/sh
# Builds the installer for Windows with Debian's makensis (package nsis), without a network.
#   packaging/windows/build.sh [WHEEL]
# Into dist/, or into $DIST; without a WHEEL, the newest that lies there is taken, or one is built.
set -eu
umask 022
here=$(dirname "$(readlink -f "$0")")
root=$here/../..
dist=${DIST:-$root/dist}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH DIST="$dist"
command -v makensis >/dev/null || { echo "makensis is not here: sudo apt install nsis" >&2; exit 1; }
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT

"$here/../source-folder.sh" "$package" "$@"
version=$(cut -d- -f1 "$package/edition")
cp "$here/start.pyw" "$here/qlora-studio.ico" "$package"
cp "$root/LICENSE" "$package/LICENSE.txt"
find "$package" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$dist"
dist=$(readlink -f "$dist")
cd "$here"
makensis -V2 -WX "-DVERSION=$version" "-DPACKAGE=$package" "-DOUTPUT=$dist/qlora-studio-$version-setup.exe" qlora-studio.nsi
