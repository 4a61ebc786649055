#!/bin/sh
# Tries a .deb in a clean Debian: installed, set up from a folder of wheels, killed, gone on with, broken, repaired, removed.
#   sudo packaging/debian/check.sh DEB WHEELS
# WHEELS is what `qlora-studio-setup --collect` made. Needs debootstrap and this system's own Debian mirror; some minutes.
set -eu
deb=$(readlink -f "$1")
wheels=$(readlink -f "$2")
. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Codename: $VERSION_CODENAME" | head -1)
root=$(mktemp -d "${TMPDIR:-/tmp}/qlora-studio-check.XXXXXX")
chmod 755 "$root"
trap 'rm -rf --one-file-system "$root"' EXIT

debootstrap --variant=minbase "$VERSION_CODENAME" "$root" "$mirror" >/dev/null
cp -r /etc/apt/apt.conf.d "$root/etc/apt/"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
mkdir -p "$root/etc/ssl/certs" "$root/mnt/wheels"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp "$deb" "$root/tmp/qlora-studio.deb"
cp "$wheels"/*.whl "$root/mnt/wheels/"

cat > "$root/tmp/as-user.sh" <<'USER'
set -eu
program=$HOME/.local/share/qlora-studio-program
fails() { if "$@"; then echo "This should have failed: $*"; exit 1; fi; }
set_up() { qlora-studio-setup --text --wheels /mnt/wheels "$@"; }
echo "== not set up: one sentence"
fails qlora-studio --version < /dev/null
echo "== killed while it installs"
qlora-studio-setup --text --wheels /mnt/wheels > /dev/null & setup=$!  # not by the function: that is a shell more
until ls -d "$program"/environments/*/lib/*/site-packages/torch > /dev/null 2>&1; do sleep 0.5; done
kill -KILL $setup
tries=0
while grep -aqs "$program" /proc/[0-9]*/cmdline; do  # pip goes with it, as soon as the disk lets it
  tries=$((tries + 1))
  [ $tries -lt 60 ] || { echo "pip outlived the setup"; exit 1; }
  sleep 0.5
done
fails qlora-studio-setup --status
echo "== goes on"
set_up
qlora-studio --version
qlora-studio doctor
echo "== broken, and repaired"
rm -rf "$program"/environments/*/lib/*/site-packages/pydantic
fails qlora-studio doctor > /dev/null 2>&1
set_up --repair
qlora-studio --version
du -sm "$program"
echo "== removed: what is left of it in the user's home"
qlora-studio-setup --remove
find "$HOME" -name '*qlora*'
USER

unshare --mount --pid --fork sh -eu -c '
  mount -t proc proc "$0/proc"
  mount --rbind /dev "$0/dev"
  export DEBIAN_FRONTEND=noninteractive
  chroot "$0" apt-get update -qq
  chroot "$0" apt-get install -y -qq --no-install-recommends /tmp/qlora-studio.deb > /dev/null 2>&1
  chroot "$0" useradd --create-home someone
  chroot "$0" env -i HOME=/home/someone PATH=/usr/bin:/bin \
    setpriv --reuid=someone --regid=someone --init-groups sh /tmp/as-user.sh
  echo "== purged: what is left of it in the system"
  chroot "$0" dpkg --purge qlora-studio > /dev/null
  chroot "$0" find / -xdev -name "*qlora*" -not -path "/proc/*" -not -path "/home/*" -not -path "/tmp/*"
' "$root"
echo "== all is well"
