#!/bin/bash
# tree.sh DIRECTORY: a clean Debian of this machine's release, as small as a host with systemd can be, made once.
# Of what sleepd needs only Python is in it, as on any Debian; curl is what README's start asks with.
set -euo pipefail
PACKAGES=(systemd dbus polkitd python3 curl procps)
wanted="$(. /etc/os-release && echo "$VERSION_CODENAME") ${PACKAGES[*]}"
if [ "$(cat "$1.made-of" 2>/dev/null)" != "$wanted" ]; then
  # The mirror is the one that this machine takes Debian from.
  suite=${wanted%% *}
  site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' | awk -v s="$suite" '$2 == s { print $1; exit }')
  [ -n "$site" ] || { echo "wanted a source of Debian $suite in apt's configuration, found none" >&2; exit 1; }
  rm -rf "$1" "$1.made-of"
  mkdir -p "$(dirname "$1")"
  left_out=(--dpkgopt=path-exclude=/usr/share/{doc,man,locale,info}/\*)
  # Left out here and now alone: what is installed later brings its manuals.
  later='rm "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"'
  mmdebstrap --quiet --variant=apt --include="$(IFS=,; echo "${PACKAGES[*]}")" "${left_out[@]}" \
    --customize-hook="$later" --aptopt='Acquire::Languages "none"' "$suite" "$1" \
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main"
  echo "$wanted" >"$1.made-of"
fi
