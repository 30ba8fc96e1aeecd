#!/bin/bash
# Prints the .deb files of a newer systemd than Debian 12's own, from its backports, after fetching them into DIRECTORY
# if they are not there yet: newer_systemd.sh DIRECTORY. This machine's own packages and apt lists stay as they are.
set -euo pipefail
directory=$(mkdir -p "$1" && cd "$1" && pwd)
SUITE=bookworm-backports
PACKAGES=(systemd libsystemd-shared libsystemd0)

if [ ! -f "$directory/.ready" ]; then
  # The mirror is the one that this machine takes Debian from.
  site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' | awk '$2 == "bookworm" { print $1; exit }')
  [ -n "$site" ] || { echo "wanted a source of Debian bookworm in apt's configuration, found none" >&2; exit 1; }
  state=$(mktemp -d)
  trap 'rm -rf "$state"' EXIT
  mkdir -p "$state"/{lists,cache,debs}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $SUITE main" >"$state/sources.list"
  options=(-qq -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::Etc::SourceList=$state/sources.list" -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o Acquire::Retries=3)
  apt-get "${options[@]}" update >&2
  (cd "$state/debs" && apt-get "${options[@]}" download "${PACKAGES[@]/%//$SUITE}" >&2)
  rm -f "$directory"/*.deb
  mv "$state/debs"/*.deb "$directory"
  touch "$directory/.ready"
fi
printf '%s\n' "$directory"/*.deb
