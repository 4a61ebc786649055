#!/bin/sh
# Builds the installer for Windows with Debian's makensis (package nsis), without a network.
#   packaging/windows/build.sh [WHEEL]
# Into dist/, or into $DIST; a wheel that lies there is taken.
set -eu
umask 022
here=$(dirname "$(readlink -f "$0")")
root=$here/../..
dist=${DIST:-$root/dist}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
command -v makensis >/dev/null || { echo "makensis is not here: sudo apt install nsis" >&2; exit 1; }
[ $# -gt 0 ] || for wheel in "$dist"/qlora_studio-*.whl; do [ ! -e "$wheel" ] || set -- "$wheel"; done
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
