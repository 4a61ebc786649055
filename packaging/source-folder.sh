#!/bin/sh
# Fills a folder with what every package carries: the wheel, the pins, the setup and the edition that names them.
#   packaging/source-folder.sh FOLDER [WHEEL]
# Without a WHEEL the newest in $DIST is taken; where there is none, it is built with $PYTHON's hatchling: nothing is fetched.
set -eu
here=$(dirname "$(readlink -f "$0")")
folder=$1
mkdir -p "$folder"
wheel=${2:-$(ls -t "${DIST:-$here/../dist}"/qlora_studio-*.whl 2>/dev/null | head -1)}
if [ -n "$wheel" ]; then
  cp "$wheel" "$folder"
else
  "${PYTHON:-python3}" -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation \
    --wheel-dir "$folder" "$here/.."
fi
cp "$here"/constraints.txt "$here/linux/set-up.py" "$folder"
cd "$folder"
set -- qlora_studio-*.whl
version=${1#qlora_studio-}
echo "${version%%-*}-$(cat "$1" constraints.txt | sha256sum | cut -c1-8)" > edition
chmod 644 ./*
