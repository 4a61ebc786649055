#!/bin/sh
# Tries a .deb in a clean Debian, as root there and as somebody who uses it: packaging/checks/as_user.sh says what they do.
#   sudo packaging/debian/check.sh DEB WHEELS
# WHEELS is what `qlora-studio-setup --collect` made. Needs debootstrap and this system's own mirror; some minutes.
# At the end, `left PATH` names each file that is there after the purge and was not there before the installation.
set -eu
here=$(dirname "$(readlink -f "$0")")
deb=$(readlink -f "$1")
wheels=$(readlink -f "$2")
. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Codename: $VERSION_CODENAME" | head -1)
root=$(mktemp -d "${TMPDIR:-/tmp}/qlora-studio-check.XXXXXX")
chmod 755 "$root"
trap 'rm -rf --one-file-system "$root"' EXIT

debootstrap --variant=minbase "$VERSION_CODENAME" "$root" "$mirror" > /dev/null
cp -r /etc/apt/apt.conf.d "$root/etc/apt/"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
mkdir -p "$root/etc/ssl/certs" "$root/mnt/wheels" "$root/tmp/.X11-unix"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp "$deb" "$root/tmp/qlora-studio.deb"
cp "$wheels"/*.whl "$root/mnt/wheels/"
cp "$here/../checks/as_user.sh" "$root/tmp"

unshare --mount --pid --fork sh -eu -c '
  mount -t proc proc "$0/proc"
  mount --rbind /dev "$0/dev"
  [ ! -d /tmp/.X11-unix ] || mount --bind /tmp/.X11-unix "$0/tmp/.X11-unix"
  export DEBIAN_FRONTEND=noninteractive
  unset TMPDIR  # a folder out here
  files() { chroot "$0" find / -xdev -type f | grep -vE "^/(tmp|mnt|var/(cache|lib|log))/" | LC_ALL=C sort; }
  chroot "$0" apt-get update -qq
  chroot "$0" useradd --create-home someone
  files > "$0/tmp/before"
  echo "== installed"
  chroot "$0" apt-get install -y -qq --no-install-recommends /tmp/qlora-studio.deb > "$0/tmp/said" 2>&1 \
    || { tail -20 "$0/tmp/said"; exit 1; }
  chroot "$0" env -i HOME=/home/someone PATH=/usr/bin:/bin DISPLAY="${DISPLAY:-}" \
    setpriv --reuid=someone --regid=someone --init-groups sh /tmp/as_user.sh /mnt/wheels
  echo "== purged"
  chroot "$0" apt-get purge -y -qq qlora-studio > /dev/null
  chroot "$0" apt-get autoremove --purge -y -qq > /dev/null
  files | LC_ALL=C comm -13 "$0/tmp/before" - | sed "s/^/left /"
' "$root"
