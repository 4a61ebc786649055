#!/bin/sh
# Puts launchers, desktop entry, icon, AppStream metainfo and MIME type under a prefix.
#   packaging/linux/desktop-files.sh PREFIX SOURCE PYTHON VERSION
# SOURCE is where the wheel will lie when it is used, PYTHON what it is set up with.
set -eu
here=$(dirname "$(readlink -f "$0")")
prefix=$1
icon=$here/qlora-studio.svg
[ -e "$icon" ] || icon=$here/../../resources/icons/qlora-studio.svg  # in the archive it lies beside this
date=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%F)
icons=$prefix/share/icons/hicolor/scalable
mkdir -p "$prefix/bin" "$prefix/share/applications" "$prefix/share/metainfo" "$prefix/share/mime/packages" "$icons/apps"
for name in qlora-studio qlora-studio-setup; do
  sed -e "s|@SOURCE@|$2|" -e "s|@PYTHON@|$3|" "$here/$name.in" > "$prefix/bin/$name"
  chmod 755 "$prefix/bin/$name"
done
cp "$here/qlora-studio.desktop" "$prefix/share/applications"
cp "$icon" "$icons/apps"
cp "$here/qlora-studio.mime.xml" "$prefix/share/mime/packages/qlora-studio.xml"
sed -e "s|@VERSION@|$4|" -e "s|@DATE@|$date|" "$here/qlora-studio.metainfo.xml" \
  > "$prefix/share/metainfo/io.github.qlora_studio.qlora_studio.metainfo.xml"
