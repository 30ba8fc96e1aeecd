#!/bin/bash
# install.sh DESTDIR PYTHON: the program, its units, rules, manuals and completions below DESTDIR ("" for this host), to be
# run by PYTHON. Called by 'make install' and by the Debian package (packaging/debian/rules).
# BUILDER: a Python that has what 'make' sets up. UNIT_DIR: where units go. Byte code is made now, because the daemon may
# write nothing there; with COMPILE=--no-compile it is left to whoever installs.
set -euo pipefail
dest=${1%/} python=$2
source=$(dirname "$(cd "$(dirname "$0")" && pwd)")
library=$dest/usr/lib/sleepd
pip=("$BUILDER" -m pip --disable-pip-version-check)

# Built from a copy: a build directory in the checkout would bring files along that are deleted there by now.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$source"/{sleepd,pyproject.toml,README.md,LICENSE} "$scratch"
find "$scratch" -name __pycache__ -prune -exec rm -rf {} +

rm -rf "$library/python"
mkdir -p "$library" "$dest/usr/bin"
"${pip[@]}" wheel -qq --no-deps --no-build-isolation -w "$scratch" "$scratch"
"${pip[@]}" --python "$python" install -qq --root-user-action=ignore --no-deps \
  "${COMPILE:---compile}" --target "$library/python" -r "$source/requirements.txt" -r "$source/requirements-otel.txt" "$scratch"/*.whl
rm -rf "$library/python/bin"
find "$library/python" -type f -exec chmod a-x {} +

for program in sleepd:sleepd.cli.daemon sleepctl:sleepd.cli.ctl; do
  install -m 755 /dev/stdin "$dest/usr/bin/${program%:*}" <<PYTHON
#!$python -I
import sys

sys.path.insert(0, "/usr/lib/sleepd/python")
from ${program#*:} import main

sys.exit(main())
PYTHON
done

put() { install -D -m 644 "$1" "$dest$2"; }
for rules in "$source"/sleepd/config/defaults/*.toml; do put "$rules" "/usr/lib/sleepd/conf.d/$(basename "$rules")"; done
for unit in "$source"/systemd/*.{service,socket}; do
  put "$unit" "${UNIT_DIR:-/usr/lib/systemd/system}/$(basename "$unit")"
done
put "$source/systemd/sleepd.sysusers.conf" /usr/lib/sysusers.d/sleepd.conf
put "$source/systemd/sleepd.tmpfiles.conf" /usr/lib/tmpfiles.d/sleepd.conf
put "$source/systemd/sleepd.rules" /usr/share/polkit-1/rules.d/sleepd.rules
mkdir -p "$dest/etc/sleepd/conf.d"
[ -e "$dest/etc/sleepd/sleepd.toml" ] || put "$source/etc/sleepd.toml" /etc/sleepd/sleepd.toml

complete() { (cd "$source" && "$BUILDER" -m sleepd.cli.ctl completion "$1") >"$scratch/$1" && put "$scratch/$1" "$2"; }
complete bash /usr/share/bash-completion/completions/sleepctl
complete zsh /usr/share/zsh/vendor-completions/_sleepctl
complete fish /usr/share/fish/vendor_completions.d/sleepctl.fish
(cd "$source" && "$BUILDER" -m sleepd.man_doc docs "$scratch/man")
for page in "$scratch"/man/*; do put "$page" "/usr/share/man/man${page##*.}/$(basename "$page")"; done

documents=$dest/usr/share/doc/sleepd
mkdir -p "$documents/examples"
cp -r "$source"/{README.md,CHANGELOG.md,docs} "$documents"
cp -r "$source"/examples/* "$source"/etc/conf.d/*.example "$documents/examples"
cp -r "$source/systemd/dropins" "$documents"
chmod -R u=rwX,go=rX "$documents"
