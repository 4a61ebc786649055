#!/bin/sh
# Installs QLoRA Studio for the user who runs it, on any Linux with Python 3.11 or newer; nothing outside their home changes.
#   ./install.sh [OPTIONS OF qlora-studio-setup]     again: updates it
#   ./install.sh --uninstall                         runs, models and settings stay
set -eu
here=$(dirname "$(readlink -f "$0")")
data=${XDG_DATA_HOME:-$HOME/.local/share}
prefix=$HOME/.local
home=$data/qlora-studio-package

refresh_desktop() {
  command -v update-desktop-database >/dev/null && update-desktop-database -q "$prefix/share/applications" || true
  command -v update-mime-database >/dev/null && update-mime-database "$prefix/share/mime" >/dev/null 2>&1 || true
}

# The indexes that those two made, where nothing of others is left to be listed in them.
remove_indexes() {
  mime=$prefix/share/mime
  if rmdir "$mime/packages" 2>/dev/null; then
    for name in XMLnamespaces aliases generic-icons globs globs2 icons magic mime.cache subclasses treemagic types version; do
      rm -f "$mime/$name"
    done
    rmdir "$mime/application" "$mime" 2>/dev/null || true
  fi
  ls "$prefix/share/applications"/*.desktop >/dev/null 2>&1 || rm -f "$prefix/share/applications/mimeinfo.cache"
}

if [ "${1:-}" = --uninstall ]; then
  [ ! -x "$prefix/bin/qlora-studio-setup" ] || "$prefix/bin/qlora-studio-setup" --remove
  rm -f "$prefix/bin/qlora-studio" "$prefix/bin/qlora-studio-setup" \
    "$prefix/share/applications/qlora-studio.desktop" \
    "$prefix/share/icons/hicolor/scalable/apps/qlora-studio.svg" \
    "$prefix/share/mime/packages/qlora-studio.xml" \
    "$prefix/share/metainfo/io.github.qlora_studio.qlora_studio.metainfo.xml"
  rm -rf "$home"
  refresh_desktop
  remove_indexes
  exit
fi

python=
for name in python3.13 python3.12 python3.11 python3; do
  found=$(command -v "$name") || continue
  if "$found" -I -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$found
    break
  fi
done
if [ -z "$python" ]; then
  echo "QLoRA Studio needs Python 3.11 or newer with venv: install it with your system's packages, and run this again." >&2
  exit 1
fi

# Beside the old, then in its place: an update that is cut off leaves what was there.
rm -rf "$home.new" && mkdir -p "$home.new"
cp "$here"/package/* "$home.new"
rm -rf "$home" && mv "$home.new" "$home"
read -r edition < "$home/edition"
"$here/desktop-files.sh" "$prefix" "$home" "$python" "${edition%%-*}"
sed -i -e "s|^Exec=\(qlora-studio[a-z-]*\)|Exec=\"$prefix/bin/\1\"|" "$prefix/share/applications/qlora-studio.desktop"
refresh_desktop
exec "$prefix/bin/qlora-studio-setup" "$@"
