"""The installer and its units on a machine with systemd and Docker, and without Python: from a download to the end."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from dso.paths import PLUGIN_USER, PLUGIN_USERS
from dso.version import VERSION
from tests.support.canary import Canary
from tests.support.process import ROOT
from tests.support.release import PROVIDERS, UNITS, Key, Release
from tests.support.systemd import BINARIES, PLUGIN_DIR, Machine
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images

STATIC = os.path.join(ROOT, "tests", "fixtures", "systemd", "dso-provider-static")
SERVICE, API, VOLUMES = UNITS
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/test.conf"
URL = "http://127.0.0.1:8080"
OLD, BROKEN = "0.0.9", "99.0.0"
SECRET = Canary.new()
CREDENTIAL = f"/run/credentials/{SERVICE}/secrets"

CONFIG = """version: 1
providers:
  static: {type: static, file: FILE}
  vault: {type: vault, address: "https://127.0.0.1:9", auth: {method: token, token: none}}
  aws: {type: aws, region: eu-central-1, access_key_id: none, secret_access_key: none}
  azure: {type: azure, vault_url: "https://none.vault.azure.net/", auth: {method: managed_identity}}
  huawei:
    {type: huawei, region: ap-southeast-3, project_id: none, auth: {method: aksk, access_key: none, secret_key: none}}
"""
SPEC = json.dumps({"files": [{"name": "db", "template": "dso://static/shop/db", "mode": 0o400}]})


@pytest.fixture(scope="module")
def machine(images: Images) -> Iterator[Machine]:
    """It has releases in /srv: an old one, the present one with the real programs, one whose agent does not start."""
    with Machine() as running:
        place = tempfile.mkdtemp(prefix="dso-install-", dir="/var/tmp")
        try:
            make_releases(place, running)
        finally:
            shutil.rmtree(place)
        running.load(images.busybox)
        running.copy(shutil.which("busybox") or "", "/usr/local/sbin/busybox")
        running.run("busybox", "httpd", "-p", "127.0.0.1:8080", "-h", "/srv/old")
        running.shell("useradd --create-home -G docker ann; groupadd --system dso")
        yield running


def make_releases(place: str, machine: Machine) -> None:
    key = Key.make(place)
    for name, version in (("old", OLD), ("new", VERSION), ("broken", BROKEN)):
        os.mkdir(f"{place}/{name}")
        release = Release(version, key, f"{place}/{name}")
        if name != "broken":
            release.use(BINARIES, "dso-agent")
        if name == "new":
            release.use(BINARIES, "docker-dso", *(f"dso-provider-{each}" for each in PROVIDERS))
        release.pack()
        for file in (release.tarball, release.script, f"{place}/{name}/latest"):
            machine.copy(file, f"/srv/{name}/{os.path.basename(file)}", 0o644)


def install(machine: Machine, name: str, version: str = "", *, check: bool = True) -> Any:
    """Run the installer; an older version than what is there has to be named."""
    named = f"--version {version}" if version else ""
    return machine.shell(f"sh /srv/{name}/install.sh --offline /srv/{name}/*.tar.gz {named}", check=check)


def invocation(machine: Machine) -> tuple[str, str]:
    """Changes with every start of the agent."""
    return machine.unit(SERVICE, "InvocationID"), machine.unit(SERVICE, "MainPID")


def programs(machine: Machine) -> str:
    """Checksums of all that is installed."""
    return machine.shell("find /usr/local -type f ! -name dso-provider-static -exec sha256sum {} + | sort -k 2").out


def status(machine: Machine) -> Any:
    return json.loads(machine.run("curl", "-sS", "--unix-socket", "/run/dso.sock", "http://dso/v1/status").out)


def start_app(machine: Machine) -> None:
    """A container with a file secret."""
    machine.run("docker", "volume", "create", "-d", "dso", "-o", f"spec={SPEC}", "app")
    words = ["--name", "app", "--restart", "always", "--stop-signal", "KILL", "--network", "none", "-v", "app:/s:ro"]
    words += ["--tmpfs", "/seen"]  # which each start begins with an empty one of
    note = "cat /s/db >/seen/first && mv /seen/first /seen/at-start; sleep inf"
    machine.run("docker", "run", "-d", *words, "dso-test/busybox", "sh", "-c", note)
    check_app(machine)


def check_app(machine: Machine) -> None:
    """It runs, has the secret and had it when it started."""
    running = ["docker", "inspect", "-f", "{{.State.Running}}", "app"]
    wait_until(lambda: machine.run(*running, check=False).out == "true\n", "the container", timeout=120, interval=0.5)
    for read in ("cat /s/db", "until cat /seen/at-start 2>&-; do sleep 0.1; done"):
        assert machine.run("docker", "exec", "app", "sh", "-c", read).out == SECRET.text


def remove_app(machine: Machine) -> None:
    machine.run("docker", "rm", "-f", "app", check=False)
    machine.run("docker", "volume", "rm", "app", check=False)


def configure(machine: Machine, file: str = "/etc/dso/secrets") -> None:
    machine.write("/etc/dso/secrets", f"shop/db {SECRET.text}\n", 0o600)
    machine.give("/etc/dso/secrets", PLUGIN_USER)
    machine.write("/etc/dso/dso.yaml", CONFIG.replace("FILE", file))
    machine.copy(STATIC, f"{PLUGIN_DIR}/dso-provider-static")


def set_up(machine: Machine) -> None:
    """The present version, its agent enabled and running, a container with a secret; what tests begin with."""
    remove_app(machine)
    if machine.shell("sed -n 's/^version //p' /usr/local/lib/dso/manifest", check=False).out.strip() != VERSION:
        install(machine, "new")
    configure(machine)
    machine.shell(f"rm -rf {os.path.dirname(DROP_IN)}; systemctl daemon-reload; systemctl reset-failed")
    machine.run("systemctl", "enable", *UNITS)
    machine.run("systemctl", "restart", *UNITS)
    start_app(machine)


def drop_in(machine: Machine, *lines: str) -> None:
    machine.write(DROP_IN, "\n".join(["[Service]", *lines, ""]))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVICE)


def test_a_download_by_pipe_installs_and_starts_nothing(machine: Machine) -> None:
    for user in PLUGIN_USERS:
        machine.run("userdel", user, check=False)
    piped = machine.shell(f"curl -fsSL {URL}/install.sh | DSO_BASE_URL={URL} sh")
    assert f"DSO {OLD} is installed:" in piped.out
    assert machine.shell(f"systemctl is-enabled {' '.join(UNITS)}", check=False).out.split() == ["disabled"] * 3
    assert machine.unit(SERVICE, "FragmentPath") == f"/usr/local/lib/systemd/system/{SERVICE}"
    assert machine.unit(SERVICE, "ActiveState") == "inactive"
    numbers = {user: machine.run("id", "-u", user).out.strip() for user in PLUGIN_USERS}
    assert numbers == {user: str(number) for user, number in PLUGIN_USERS.items()}  # which no image has taken

    as_ann = ["env", "HOME=/home/ann", "sh", "-euc"]
    piped = machine.user("ann", *as_ann, f"curl -fsSL {URL}/install.sh | sh -s -- --base-url {URL}")
    assert "/home/ann/.docker/cli-plugins/docker-dso" in piped.out
    machine.user("ann", *as_ann, "~/.local/share/dso/uninstall.sh")
    assert machine.shell("find /home/ann -newer /srv/old/latest -type f").out == ""


def test_upgrades_keep_everything_and_restart_the_agent_only_if_it_ran(machine: Machine) -> None:
    install(machine, "old", OLD)
    configure(machine)
    machine.write("/etc/dso/agent.env", "SOME=thing\n", 0o600)
    machine.write("/home/ann/.dso/vault.enc", "a vault\n", 0o600)
    machine.run("systemctl", "enable", "--now", *UNITS)
    start_app(machine)
    former = invocation(machine)
    assert "nothing to do" in install(machine, "old").out
    assert invocation(machine) == former
    upgraded = install(machine, "new")
    assert f"DSO {VERSION} is installed in place of {OLD}" in upgraded.out
    assert "restarting the agent" in upgraded.out
    assert invocation(machine) != former
    check_app(machine)
    assert VERSION in machine.user("ann", "env", "HOME=/home/ann", "docker", "dso", "version").out
    kept = machine.shell("cat /etc/dso/agent.env /home/ann/.dso/vault.enc; stat -c %a /etc/dso/agent.env").out
    assert kept == "SOME=thing\na vault\n600\n"

    whole = programs(machine)
    broken = install(machine, "broken", check=False)
    assert broken.returncode == 1
    assert "the new agent does not start" in broken.err
    assert programs(machine) == whole
    assert machine.unit(SERVICE, "ActiveState") == "active"
    check_app(machine)

    machine.run("systemctl", "stop", *UNITS)
    refused = install(machine, "old", check=False)
    assert f"DSO {VERSION} is installed, and" in refused.err
    assert programs(machine) == whole
    install(machine, "old", OLD)
    assert machine.unit(SERVICE, "ActiveState") == "inactive"
    machine.run("systemctl", "start", *UNITS)
    check_app(machine)


def test_what_is_uninstalled_is_gone_and_what_is_the_users_stays(machine: Machine) -> None:
    set_up(machine)
    machine.write("/home/ann/.dso/vault.enc", "a vault\n", 0o600)
    refused = machine.run("/usr/local/lib/dso/uninstall.sh", check=False)
    assert "container app (running) uses volume app" in refused.out
    assert "docker dso down" in refused.err
    check_app(machine)
    remove_app(machine)
    removed = machine.run("/usr/local/lib/dso/uninstall.sh")
    assert "kept: /etc/dso /var/lib/dso" in removed.out
    machine.shell("test -e /etc/dso/dso.yaml; test -e /home/ann/.dso/vault.enc; getent group dso")
    left = "ls -d /run/dso.sock /run/docker/plugins/dso.sock /etc/systemd/system/*/dso-* /usr/local/share/doc/dso 2>&-"
    assert machine.shell(left, check=False).out == ""
    assert machine.shell("find /usr/local -name '*dso*' ! -name dso-provider-static ! -type d").out == ""
    assert machine.unit(SERVICE, "LoadState") == "not-found"

    install(machine, "old")
    assert "--purge takes a yes" in machine.run("/usr/local/lib/dso/uninstall.sh", "--purge", check=False).err
    machine.run("/usr/local/lib/dso/uninstall.sh", "--purge", "--yes")
    assert machine.shell("ls -d /etc/dso /var/lib/dso 2>&-", check=False).out == ""
    machine.shell("test -e /home/ann/.dso/vault.enc")  # another user's


def test_the_units_are_sound_and_hardened_and_everything_works_in_them(machine: Machine) -> None:
    set_up(machine)
    verified = machine.run("systemd-analyze", "--man=no", "verify", *UNITS)
    assert verified.out + verified.err == ""
    rated = machine.run("systemd-analyze", "security", "--no-pager", "--threshold=33", SERVICE, check=False)
    assert rated.returncode == 0, rated.out
    assert machine.unit(SERVICE, "WatchdogUSec") == "30s"
    assert machine.run("stat", "-c", "%U:%G %a", "/run/dso.sock").out == "root:dso 660\n"
    journal = machine.journal(SERVICE)
    assert "file secrets are served to the Engine by the volume driver 'dso'" in journal
    assert "may be written to swap" not in journal

    wait_until(
        lambda: {one["state"] for one in status(machine)["providers"]} == {"running"},
        "every plugin runs inside the sandbox",
    )
    main = machine.unit(SERVICE, "MainPID")
    inside = machine.shell(f"nsenter -t {main} -m sh -c 'touch /etc/x /root/x /usr/x 2>&1; ls /tmp'", check=False)
    assert inside.out.count("Read-only file system") == 3
    assert set(inside.out.split("\n")[3:]) != set(machine.run("ls", "/tmp").out.split("\n"))

    # where mounts are not handed on between name spaces, as in some containers with systemd
    machine.run("mount", "--make-rprivate", "/")
    machine.run("systemctl", "restart", SERVICE)
    check_app(machine)
    machine.run("docker", "restart", "-t", "0", "app")
    check_app(machine)
    remove_app(machine)
    assert machine.shell("grep /run/dso/volumes/ /proc/*/mountinfo", check=False).out == ""
    assert machine.shell("ls -A /run/dso/volumes").out == ""
    machine.run("mount", "--make-rshared", "/")


def test_credentials_of_systemd_reach_the_plugins(machine: Machine) -> None:
    set_up(machine)
    configure(machine, CREDENTIAL)
    drop_in(machine, "LoadCredential=secrets:/etc/dso/secrets")
    machine.run("docker", "restart", "-t", "0", "app")
    check_app(machine)
    assert CREDENTIAL in machine.run("cat", "/etc/dso/dso.yaml").out


def test_tmp_may_be_noexec_for_the_agent(machine: Machine) -> None:
    set_up(machine)
    machine.run("mount", "-o", "remount,noexec", "/tmp")
    try:
        machine.run("systemctl", "restart", SERVICE)
        check_app(machine)
    finally:
        machine.run("mount", "-o", "remount,exec", "/tmp")


def test_the_watchdog_the_engine_and_a_reboot(machine: Machine) -> None:
    set_up(machine)
    drop_in(machine, "WatchdogSec=2")
    former = invocation(machine)
    machine.run("kill", "-STOP", former[1])
    wait_until(lambda: invocation(machine)[1] not in (former[1], "0"), "another agent")
    machine.wait_for(SERVICE, "active")
    check_app(machine)

    machine.run("systemctl", "restart", "docker.service")
    check_app(machine)
    machine.reboot()
    check_app(machine)
    # systemd made them, before the Engine could
    assert machine.run("stat", "-c", "%U %a", "/run/docker", "/run/docker/plugins").out == "root 700\n" * 2
    assert machine.run("docker", "inspect", "-f", "{{.RestartCount}}", "app").out == "0\n"
    assert not SECRET.find(machine.journal().encode())


def test_a_faulty_configuration_ends_in_an_error_and_mending_it_is_enough(machine: Machine) -> None:
    set_up(machine)
    machine.run("systemctl", "stop", SERVICE)
    machine.write("/etc/dso/dso.yaml", "version: 1\nprovider: {}\n")
    assert machine.run("systemctl", "start", SERVICE, check=False).returncode != 0
    assert machine.unit(SERVICE, "ExecMainStatus") == "44"
    machine.run("curl", "-sS", "-m", "3", "--unix-socket", "/run/dso.sock", "http://dso/healthz", check=False)
    configure(machine)
    machine.run("systemctl", "reset-failed", *UNITS)
    machine.run("systemctl", "restart", SERVICE)
    machine.run("docker", "restart", "-t", "0", "app")
    check_app(machine)
