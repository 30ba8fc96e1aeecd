"""The Debian package's life on a clean Debian: installed, upgraded, removed, purged."""

from __future__ import annotations

import re
from pathlib import Path

from tests.package.machine import GIB, Machine, repacked

SETTINGS = """
[gateway]
listen = ["127.0.0.1:8800"]
[model_defaults]
gpus = ["0"]
min_awake = "0s"
host_ram = "1GiB"
"""
MODEL = """
[models.{0}]
url  = "unix:/run/vllm/{0}.sock"
unit = "vllm@{0}.service"
"""


def settings_of(names: str) -> str:
    """Models of these names."""
    return SETTINGS + "".join(map(MODEL.format, names))


def start_servers(machine: Machine, names: str) -> None:
    """Servers of these names, and a daemon that knows them."""
    for name in names:
        machine.write(f"/etc/vllm/{name}.env", f"MODEL={name}\n")
    machine.write("/etc/sleepd/conf.d/models.toml", settings_of(names))
    ready = "until curl -fs --unix-socket /run/vllm/$n.sock http://a/health; do sleep 0.1; done"
    machine.sh(f"for n in {' '.join(names)}; do systemctl start vllm@$n; {ready}; done")
    machine.sh(f"systemctl restart sleepd; until sleepctl is-awake {' '.join(names)}; do sleep 0.1; done")


def ask_as_nobody(machine: Machine) -> None:
    """`sleepd init` by a caller who is not root: told what was not seen, and where nothing could be written."""
    machine.sh("install -d -o nobody /srv/home; systemd-run --unit other /opt/vllm/bin/vllm serve m --port 9001")
    machine.sh("until curl -sf http://127.0.0.1:9001/health; do sleep 0.1; done")
    asks = "setpriv --reuid nobody --clear-groups sleepd init"
    refused = machine.sh(asks, check=False)
    assert refused.returncode == 1
    assert "/etc/sleepd/conf.d" in refused.stderr
    assert "Permission denied; nothing was written. Run this as root, or name another --dir" in refused.stderr
    told = machine.say(f"{asks} --dir /srv/home/etc; sleepd check --config /srv/home/etc; systemctl stop other")
    assert "m: vLLM 0.32.0, other.service, pid " in told
    assert "missing: it has no sleep endpoints." in told
    assert "Environments and sockets of other users' servers were not seen" in told
    assert "ok: 1 model" in told


def test_without_models_it_is_ready_and_harmless_and_goes_without_a_trace(machine: Machine, deb: Path) -> None:
    machine.install(deb)
    assert machine.say("systemctl is-active sleepd.service sleepd.socket") == "active\nactive"
    assert machine.say("systemctl is-enabled sleepd.service sleepd.socket") == "enabled\nenabled"
    assert machine.sh("systemctl is-enabled sleepd-gateway.socket", check=False).stdout == "disabled\n"
    assert machine.say("curl -fs --unix-socket /run/sleepd/sleepd.sock http://a/readyz")
    assert machine.say("sleepd check").startswith("ok: 0 models, 2 rules from ")
    assert machine.say("systemctl show --value -p NRestarts sleepd.service") == "0"
    assert machine.say("getent passwd sleepd vllm | wc -l") == "2"
    assert not machine.say("find /usr/lib/sleepd -name '*.py' ! -execdir test -d __pycache__ ';' -print")
    assert "sleepctl wake" in machine.say("zcat /usr/share/man/man1/sleepctl.1.gz")
    assert machine.say(". /usr/share/bash-completion/completions/sleepctl; complete -p sleepctl; dpkg -V sleepd") == (
        "complete -F _sleepctl sleepctl"
    )

    ask_as_nobody(machine)

    # Where an image is made there may be no place for what several processes share.
    configure = "/var/lib/dpkg/info/sleepd.postinst configure 0.1.0"
    machine.sh(f"unshare -m sh -c 'mount -t tmpfs -o ro none /dev/shm && {configure}'")

    machine.sh("apt-get -qq remove -y sleepd")
    assert machine.say("ls /etc/sleepd") == "sleepd.toml", "what an administrator may have edited stays"
    assert machine.say("ls -d /var/lib/sleepd /usr/lib/sleepd 2>/dev/null || true") == "/var/lib/sleepd"
    assert machine.sh("systemctl is-active sleepd.service sleepd.socket", check=False).stdout == "inactive\ninactive\n"
    machine.sh("apt-get -qq purge -y sleepd")
    left = machine.say("find /etc /usr /var /run -path '*sleep[dc]*' ! -path '/etc/systemd/system/sleepd.service.d*'")
    assert left == ""
    assert machine.say("getent passwd sleepd vllm | wc -l") == "2", "their numbers become nobody else's"


def test_an_upgrade_keeps_what_was_edited_and_who_sleeps_and_who_asks(
    machine: Machine, deb: Path, tmp_path: Path
) -> None:
    machine.install(deb)
    start_servers(machine, "a")
    machine.write("/etc/sleepd/conf.d/wake.toml", '[daemon]\non_stop = "wake"\n')
    machine.sh("sleepctl reload; sleepctl sleep a; sed -i '1i # mine' /etc/sleepd/sleepd.toml")
    settings = machine.say("cat /etc/sleepd/sleepd.toml")
    daemon, server = (machine.say(f"systemctl show --value -p MainPID {u}") for u in ("sleepd", "vllm@a"))

    later = repacked(deb, "0.1.1", tmp_path / "srv")
    asks = "while [ -e /srv/asking ]; do curl -fsS --unix-socket /run/sleepd/sleepd.sock http://a/healthz; done"
    machine.sh(f"touch /srv/asking; ({asks}) </dev/null >/srv/answers 2>&1 &")
    # Asked whether to take the new file: the default keeps the old one, and the new one lies beside it.
    told = machine.say(f"dpkg -i /srv/{later.name} 2>&1", stdin="\n")
    assert "Configuration file '/etc/sleepd/sleepd.toml'" in told
    machine.sh("rm /srv/asking; sleepctl status")
    assert machine.say("dpkg-query -W -f '${Version}' sleepd") == "0.1.1"
    assert machine.say("cat /etc/sleepd/sleepd.toml") == settings
    assert machine.say("head -1 /etc/sleepd/sleepd.toml.dpkg-dist") == "# of 0.1.1"
    assert machine.say("cat /etc/sleepd/conf.d/models.toml") == settings_of("a").removesuffix("\n")
    assert machine.say("systemctl show --value -p MainPID vllm@a") == server, "servers run on"
    assert machine.say("systemctl show --value -p MainPID sleepd") not in (daemon, "0")
    assert machine.status("a")["state"] == "asleep", "a restart is no stop, whatever on_stop says"
    answers = (tmp_path / "srv" / "answers").read_text()
    assert answers
    assert "curl" not in answers, answers
    machine.sh("rm -r /usr/lib/sleepd/python; apt-get -qq remove -y sleepd")


def test_removal_leaves_or_wakes_sleepers_and_a_wrong_configuration_is_told_on_the_way_back(
    machine: Machine, deb: Path
) -> None:
    machine.install(deb)
    start_servers(machine, "ab")
    machine.sh("sleepctl sleep a b")
    machine.sh("apt-get -qq remove -y sleepd")
    assert [machine.is_sleeping(name) for name in "ab"] == [True, True], "left as they were, and their servers run on"
    machine.write("/etc/sleepd/conf.d/wrong.toml", "[daemon]\nno_such = 1\n")
    told = machine.say(f"dpkg -i /srv/{deb.name} 2>&1")
    assert '/etc/sleepd/conf.d/wrong.toml:2: unknown key "no_such" in [daemon]' in told
    assert "sleepd cannot run with this configuration." in told
    machine.sh("rm /etc/sleepd/conf.d/wrong.toml; until systemctl is-active sleepd; do sleep 0.1; done")
    machine.sh("for n in a b; do until sleepctl --json status $n | grep -q asleep; do sleep 0.1; done; done")
    # A job takes 2 of the GPU's 8 GiB (process 1, here): of the 5.5 that are left a wake takes 3, and 1 is the margin.
    machine.sh(f"echo {2 * GIB} >/srv/gpus/0.1; until sleepctl status | grep -q '2.5GiB of 8GiB'; do sleep 0.1; done")
    machine.write("/etc/sleepd/conf.d/leave.toml", '[daemon]\non_stop = "wake"\n')
    told = machine.say("sleepctl reload; apt-get -qq remove -y sleepd 2>&1")
    assert sorted(machine.is_sleeping(name) for name in "ab") == [False, True], "as many as fit"
    words = r"^sleepd: before the end: woke ([ab]); (?!\1)[ab] is left asleep: waits for room: \1 is awake$"
    assert re.search(words, told, re.MULTILINE), told
