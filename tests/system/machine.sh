#!/bin/bash
# A throw-away machine: a real systemd as PID 1 of new namespaces, on a copy-on-write view of this one's files.
#   machine.sh up            boot it
#   machine.sh exec CMD...   run CMD in it as root, outside any unit; its environment is empty but for words like A=B first
#   machine.sh down          kill it and leave nothing behind
# MACHINE: its name, for several at once. MACHINE_TREE: the tree of which it is a view, where not of this machine's own.
# MACHINE_DEBS: .deb files unpacked over its files. MACHINE_BIND: what else of this machine it sees, "source:target[:ro]
# ...". MACHINE_LIMIT_S: it is killed after so many seconds, whatever happens.
#
# Needs root and util-linux. Works beside cgroup v1, within a container that may unshare, and where PID 1 is no systemd.
set -euo pipefail
self=$(readlink -f "$0")
export MACHINE=${MACHINE:-sleepd} MACHINE_TREE=${MACHINE_TREE:-/}
export MACHINE_DEBS=${MACHINE_DEBS:-} MACHINE_BIND=${MACHINE_BIND:-}
HERE=/run/sleepd-tests/$MACHINE
ROOT=$HERE/root

# The number of a process may be another one's by now: its PID namespace is what we know it by.
is_up() { [ -s "$HERE/pidns" ] && [ "$(readlink "/proc/$(<"$HERE/pid1")/ns/pid")" = "$(<"$HERE/pidns")" ]; } 2>/dev/null

up() {
  "$self" down
  mkdir -p "$ROOT" "$HERE/cgroup"
  setsid timeout -k 2 "${MACHINE_LIMIT_S:-900}" unshare --mount --propagation private "$self" _own \
    >"$HERE/console" 2>&1 </dev/null &
  for _ in {1..1000}; do [ ! -s "$HERE/pidns" ] || break; sleep 0.02; done
  state=$("$self" exec sh -c 'for i in $(seq 1200); do s=$(systemctl is-system-running 2>/dev/null)
    case $s in running|degraded) break;; esac; sleep 0.05; done; echo "$s"') || true
  [ "$state" = running ] || { cat "$HERE/console"; "$self" exec systemctl --failed || true; exit 1; } >&2
}

# In a mount namespace of its own, in this machine's PID namespace: owns the cgroup, and removes it in the end.
own() {
  echo $$ >"$HERE/owner"
  # cgroup2 can be mounted in a new namespace even where v1 hierarchies are in use. A child of its root, seen through a
  # cgroup namespace, is the root that systemd needs.
  mount -t cgroup2 none "$HERE/cgroup"
  group=$HERE/cgroup/sleepd-tests-$MACHINE
  mkdir -p "$group"
  trap 'for _ in {1..100}; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.02; done' EXIT
  trap 'kill -KILL "${pid1:-$child}"' TERM
  (
    echo "$BASHPID" >"$group/cgroup.procs"
    exec unshare --mount --propagation private --pid --cgroup --uts --ipc --net --fork --kill-child -- "$self" _boot
  ) &
  child=$!
  until { pid1=$(pgrep -P "$child") && [ "$(<"/proc/$pid1/comm")" = systemd ]; } || ! kill -0 "$child"; do
    sleep 0.01
  done
  echo "$pid1" >"$HERE/pid1"
  readlink "/proc/$pid1/ns/pid" >"$HERE/pidns"
  wait "$child" || true
}

# PID 1 of the new PID namespace: builds its root, then becomes systemd.
boot() {
  # Upper and work on a tmpfs of their own: overlayfs refuses those that lie inside its lower layer.
  mount -t tmpfs -o mode=755 machine "$ROOT"
  mkdir "$ROOT"/{up,work,root}
  mount -t overlay -o "lowerdir=$MACHINE_TREE,upperdir=$ROOT/up,workdir=$ROOT/work" overlay "$ROOT/root"
  for deb in $MACHINE_DEBS; do
    # A plain dpkg-deb -x would put a directory in the place of the link /lib.
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$ROOT/root" --keep-directory-symlink
  done
  cd "$ROOT/root"
  mount -t proc proc proc
  mount -t sysfs -o ro sysfs sys  # read-only keeps udev off
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  for file in proc/sys proc/sysrq-trigger; do  # these settings are the host's too
    [ ! -e $file ] || { mount --bind $file $file; mount -o remount,bind,ro $file; }
  done
  mount -t tmpfs -o mode=755 dev dev
  mkdir dev/{pts,shm}
  mknod -m 666 dev/tty c 5 0
  for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"; done
  mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  for directory in dev/shm tmp; do mount -t tmpfs -o mode=1777 tmpfs "$directory"; done
  mount -t tmpfs -o mode=755 tmpfs run
  for bind in $MACHINE_BIND; do
    IFS=: read -r source target option <<<"$bind"
    mkdir -p ".$target"
    mount --rbind "$source" ".$target"
    [ "${option:-}" != ro ] || mount -o remount,bind,ro ".$target"
  done
  write_units run/systemd/system
  ip link set lo up
  mkdir -p run/old
  pivot_root . run/old
  umount -l /run/old
  rmdir /run/old
  mount --make-rshared /  # systemd leaves it private in a container, and then LoadCredential= yields an unreadable directory
  # Without these it changes neither this machine's clock nor its modules nor its audit.
  exec env -i container=sleepd-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin setpriv --bounding-set \
    -sys_time,-sys_module,-sys_rawio,-syslog,-wake_alarm,-audit_control,-audit_read,-mac_admin,-mac_override \
    /lib/systemd/systemd --system --unit=machine.target --show-status=0
}

# What this machine has enabled stays off: only what every machine has, and the bus.
write_units() {
  mkdir -p "$1" run/systemd/journald.conf.d
  printf '[Unit]\nRequires=basic.target dbus.socket\nAfter=basic.target dbus.socket\n' >"$1/machine.target"
  printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >run/systemd/journald.conf.d/machine.conf
  for unit in timers.target systemd-journald-audit.socket systemd-sysctl.service systemd-remount-fs.service \
    systemd-udevd.service dev-hugepages.mount sys-fs-fuse-connections.mount; do
    ln -s /dev/null "$1/$unit"
  done
}

run_inside() {
  is_up || { echo "the machine $MACHINE is not running" >&2; exit 1; }
  exec nsenter --target "$(<"$HERE/pid1")" --mount --pid --uts --ipc --net --cgroup \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 SYSTEMD_PAGER= "$@"
}

# The owner cleans up; where it was killed itself, its work is done here.
down() {
  ! is_up || kill -KILL "$(<"$HERE/pid1")"
  group=$(findmnt -fnt cgroup2 -o TARGET || true)/sleepd-tests-$MACHINE
  owner=$(cat "$HERE/owner" 2>/dev/null || true)
  for _ in {1..500}; do
    if [ -n "$owner" ] && kill -0 "$owner" 2>/dev/null; then sleep 0.02
    elif [ -d "$group" ]; then find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
    else break; fi
  done
  rm -rf --one-file-system "$HERE"
}

case ${1:-} in
  up) up ;;
  exec) shift; run_inside "$@" ;;
  down) down ;;
  _own) own ;;
  _boot) boot ;;
  *) sed -n 2,10p "$0"; exit 2 ;;
esac
