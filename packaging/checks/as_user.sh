#!/bin/sh
# What a person does with a package, in a clean home: the first start, a setup that is killed, a program that breaks.
#   as_user.sh WHEELS     WHEELS is what `qlora-studio-setup --collect` made; with DISPLAY the windows are opened there
# `took NAME SECONDS` and `room BYTES` among its lines are read by dist_check.py.
set -eu
wheels=$1
program=$HOME/.local/share/qlora-studio-program
said=$HOME/said

set_up() { qlora-studio-setup --text --wheels "$wheels" "$@"; }

timed() {
  name=$1 begun=$(date +%s)
  shift
  "$@"
  echo "took $name $(($(date +%s) - begun))"
}

refuses() { # WORDS COMMAND …: it fails, says these words, and shows no traceback
  words=$1
  shift
  if "$@" < /dev/null > "$said" 2>&1; then echo "This should have failed: $*"; exit 1; fi
  cat "$said"
  if grep -q Traceback "$said" || ! grep -q -e "$words" "$said"; then echo "It should say: $words"; exit 1; fi
}

opens() { # every page of the window, on the screen where there is one
  if [ -n "${DISPLAY:-}" ]; then platform=xcb; else platform=offscreen; fi
  QT_QPA_PLATFORM=$platform qlora-studio --self-test --json > "$said"
}

echo "== not set up yet"
DISPLAY='' refuses qlora-studio-setup qlora-studio --version
refuses "not set up" qlora-studio-setup --status
if [ -n "${DISPLAY:-}" ]; then
  code=0
  timeout 6 qlora-studio || code=$?
  [ $code -eq 124 ] || { echo "The setup's window did not stay, but ended with $code"; exit 1; }
fi

echo "== killed while it installs"
qlora-studio-setup --text --wheels "$wheels" > /dev/null & setup=$! # not by the function: that is a shell more
until ls -d "$program"/environments/*/lib/*/site-packages/torch > /dev/null 2>&1; do sleep 0.5; done
kill -KILL $setup
tries=0
while grep -aqs "$program" /proc/[0-9]*/cmdline; do # pip goes with it, as soon as the disk lets it
  tries=$((tries + 1))
  [ $tries -lt 60 ] || { echo "pip outlived the setup"; exit 1; }
  sleep 0.5
done
refuses "not set up" qlora-studio-setup --status

echo "== goes on"
timed install set_up
echo "room $(du -sb "$program" | cut -f1)"
qlora-studio-setup --status
qlora-studio --version
qlora-studio doctor
timed start opens

echo "== a library breaks: the doctor says what mends it"
rm -rf "$program"/environments/*/lib/*/site-packages/bitsandbytes
refuses "qlora-studio-setup --repair" qlora-studio doctor

echo "== the doctor mends it: what is gone, what a full disk cut short, what a killed installer left half"
site=$(echo "$program"/environments/*/lib/*/site-packages)
rm -rf "$site/PySide6/Qt/plugins/platforms" "$site"/multiprocess-*.dist-info/METADATA
for file in trl/__init__.py datasets/arrow_dataset.py; do truncate -s 99 "$site/$file"; done
refuses "datasets" qlora-studio doctor
timed fix env PIP_NO_INDEX=1 PIP_FIND_LINKS="$wheels" qlora-studio doctor --fix
qlora-studio doctor
opens

echo "== so much breaks that nothing starts"
rm -rf "$program"/environments/*/lib/*/site-packages/pydantic
refuses "qlora-studio-setup --repair" qlora-studio doctor
timed mend set_up --repair
qlora-studio doctor
opens

echo "== removed"
timed remove qlora-studio-setup --remove
rm "$said"
