#!/bin/bash
# install.sh DESTDIR PYTHON: the program, its units and rules below DESTDIR ("" for this host), to be run by PYTHON.
# Byte code is made now: the daemon may write nothing there. PIP: the pip that is used. Called by 'make install'.
set -euo pipefail
dest=${1%/} python=$2
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
library=$dest/usr/lib/sleepd

# Built from a copy: a build directory in the checkout would bring files along that are deleted there by now.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$source"/{sleepd,pyproject.toml,README.md,LICENSE} "$scratch"
find "$scratch" -name __pycache__ -prune -exec rm -rf {} +

rm -rf "$library/python"
mkdir -p "$library" "$dest/usr/bin"
$PIP wheel -qq --disable-pip-version-check --no-deps --no-build-isolation -w "$scratch" "$scratch"
$PIP --python "$python" install -qq --disable-pip-version-check --root-user-action=ignore --no-deps \
  --target "$library/python" -r "$source/requirements.txt" "$scratch"/*.whl
rm -rf "$library/python/bin"

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
for unit in "$here"/*.service "$here"/*.socket; do put "$unit" "/usr/lib/systemd/system/$(basename "$unit")"; done
for dropin in "$here"/dropins/*.conf; do put "$dropin" "/usr/share/doc/sleepd/dropins/$(basename "$dropin")"; done
put "$here/sleepd.sysusers.conf" /usr/lib/sysusers.d/sleepd.conf
put "$here/sleepd.tmpfiles.conf" /usr/lib/tmpfiles.d/sleepd.conf
put "$here/sleepd.rules" /usr/share/polkit-1/rules.d/sleepd.rules
put "$source/etc/conf.d/models.toml.example" /etc/sleepd/conf.d/models.toml.example
[ -e "$dest/etc/sleepd/sleepd.toml" ] || put "$source/etc/sleepd.toml" /etc/sleepd/sleepd.toml
