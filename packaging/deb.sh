#!/bin/bash
# deb.sh TARGET: builds sleepd_VERSION_ARCH.deb into TARGET, for this machine's /usr/bin/python3. Needs debhelper.
# BUILDER: a Python that has what 'make' sets up. Called by 'make deb'.
set -euo pipefail
source=$(dirname "$(cd "$(dirname "$0")" && pwd)")
target=$(mkdir -p "$1" && cd "$1" && pwd)
for program in dpkg-buildpackage dh; do
  command -v "$program" >/dev/null || { echo "wanted $program, found none: apt-get install debhelper dpkg-dev" >&2; exit 1; }
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/sleepd"
cp -r "$source"/{sleepd,systemd,packaging,etc,docs,examples} "$source"/{pyproject.toml,requirements*.txt,*.md,LICENSE} "$scratch/sleepd"
find "$scratch" -name __pycache__ -prune -exec rm -rf {} +
cd "$scratch/sleepd"
mv packaging/debian debian
export DEB_BUILD_OPTIONS="noautodbgsym parallel=$(nproc)"
# Nothing is compiled: the compiler that Debian takes for granted need not be there.
dpkg-buildpackage --build=binary --no-check-builddeps --unsigned-changes --unsigned-buildinfo >"$scratch/log" 2>&1 ||
  { cat "$scratch/log" >&2; exit 1; }
rm -f "$target"/sleepd_*.deb
mv "$scratch"/sleepd_*.deb "$target"
ls "$target"/sleepd_*.deb
