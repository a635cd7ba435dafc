"""The manifest, and what is wrong with programs."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from dso.host.installation import AGENT, HOME, by_age, find_installation, parse_manifest, program_flaws, trust_flaws
from dso.version import VERSION
from tests.support.process import ROOT, run

if TYPE_CHECKING:
    from tests.support.host import FakeHost

MANIFEST = f"""# What the installer of DSO put where
version {VERSION}
agent yes
providers vault aws
dir {HOME}
future thing
file {"0" * 64} 755 {AGENT}
file {"1" * 64} 644 /usr/local/lib/systemd/system/dso-agent.socket
file {"2" * 64} 644 /usr/local/share/doc/with blank
"""


@pytest.fixture
def agent(host: FakeHost) -> str:
    host.write(AGENT, "agent", 0o755)
    host.says[f"{AGENT} --version"] = (f"dso-agent {VERSION}\n", 0)
    return AGENT


def test_the_manifest_says_what_is_installed() -> None:
    found = parse_manifest(HOME, MANIFEST.encode())
    assert (found.version, found.has_agent, found.providers) == (VERSION, True, ("vault", "aws"))
    assert found.agent == AGENT
    assert found.files[0] == (AGENT, "0" * 64, 0o755)
    assert found.files[-1].path == "/usr/local/share/doc/with blank"
    socket = found.unit("dso-agent.socket")
    assert socket is not None
    assert socket.sha256 == "1" * 64
    assert found.unit("dso-agent.service") is None


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"file\nfile a\nfile a b\nfile a x y\nagent"])
def test_a_missing_or_damaged_manifest_says_nothing(content: bytes | None) -> None:
    found = parse_manifest(HOME, content)
    assert (found.version, found.has_agent, found.files) == ("", False, ())
    assert found.agent == AGENT


def test_another_prefix_is_found_through_the_unit(host: FakeHost) -> None:
    unit = "[Service]\nEnvironment=DSO_PLUGIN_DIR=/opt/dso/lib/dso/plugins\nExecStart=/opt/dso/bin/dso-agent\n"
    host.write("/usr/local/lib/systemd/system/dso-agent.service", unit)
    host.write("/opt/dso/lib/dso/manifest", f"version {VERSION}\nfile {'0' * 64} 755 /opt/dso/bin/dso-agent\n")
    found = find_installation(host)
    assert (found.home, found.agent, found.version) == ("/opt/dso/lib/dso", "/opt/dso/bin/dso-agent", VERSION)


def test_a_manifest_that_another_user_owns_says_nothing(host: FakeHost) -> None:
    host.write(f"{HOME}/manifest", MANIFEST)
    host.owners[f"{HOME}/manifest"] = 1000
    found = find_installation(host)
    assert (found.home, found.version, found.has_agent, found.providers, found.files) == (HOME, "", False, (), ())
    assert [(flaw.path, flaw.what) for flaw in found.flaws] == [
        (f"{HOME}/manifest", "belongs to user 1000, not to root")
    ]


@pytest.mark.parametrize("path", ["manifest", "", "../..", "../../.."])
def test_a_manifest_that_others_may_write_or_replace_says_nothing(path: str, host: FakeHost) -> None:
    host.write(f"{HOME}/manifest", MANIFEST)
    writable = os.path.normpath(f"{HOME}/{path}")
    os.chmod(host.path(writable), 0o775)
    found = find_installation(host)
    assert (found.version, found.files) == ("", ())
    assert [(flaw.path, flaw.what) for flaw in found.flaws] == [(writable, "can be changed by other users")]


def test_a_unit_that_another_user_owns_does_not_say_where_dso_is(host: FakeHost) -> None:
    unit = "/usr/local/lib/systemd/system/dso-agent.service"
    host.write(unit, "[Service]\nEnvironment=DSO_PLUGIN_DIR=/home/eve/lib/dso/plugins\n")
    host.owners[unit] = 1000
    assert find_installation(host).home == HOME


def test_a_manifest_names_no_agent_or_unit_where_the_installer_puts_none() -> None:
    lines = (
        f"file {'0' * 64} 755 /home/eve/bin/dso-agent\nfile {'1' * 64} 644 /home/eve/systemd/system/dso-agent.socket"
    )
    found = parse_manifest(HOME, lines.encode())
    assert found.agent == AGENT
    assert found.unit("dso-agent.socket") is None


def test_versions_have_the_order_that_the_installer_gives_them() -> None:
    """The list has it; so that both agree, the installer's own function sorts it as well."""
    ordered = [
        "0.9.9",
        "0.9.10",
        "1.0.0-rc1",
        "1.0.0-rc9",
        "1.0.0-rc10",
        "1.0.0",
        "1.0.0+fix",
        "1.0.0.1",
        "1.9.0",
        "1.10.0",
    ]
    mixed = ordered[::-1]
    assert sorted(mixed, key=by_age) == ordered
    with open(f"{ROOT}/installer/install.sh", encoding="utf-8") as file:
        function = "by_age() {" + file.read().partition("\nby_age() {")[2].partition("\n}\n")[0] + "\n}\n"
    for shell in ("dash", "busybox sh"):
        words = [*shell.split(), "-c", f"LC_ALL=C; export LC_ALL; {function} by_age"]
        assert run(words, input="\n".join(mixed) + "\n").out.split() == ordered


def test_a_program_that_is_right_has_no_flaws(host: FakeHost, agent: str) -> None:
    assert program_flaws(host, find_installation(host), agent) == []


def test_a_missing_program(host: FakeHost) -> None:
    (flaw,) = program_flaws(host, find_installation(host), AGENT)
    assert flaw.what == "is missing"
    assert "system setup --from" in flaw.remedy


@pytest.mark.parametrize(
    ("mode", "what"), [(0o775, "changed by other"), (0o757, "changed by other"), (0o644, "executable")]
)
def test_a_program_with_the_wrong_mode_is_not_started(host: FakeHost, agent: str, mode: int, what: str) -> None:
    os.chmod(host.path(agent), mode)
    (flaw,) = program_flaws(host, find_installation(host), agent)
    assert what in flaw.what
    assert flaw.is_safe
    assert host.calls == []


def test_a_program_of_somebody_elses_is_not_started(host: FakeHost, agent: str) -> None:
    host.owners[agent] = 1000
    (flaw,) = program_flaws(host, find_installation(host), agent)
    assert (flaw.what, flaw.remedy) == ("belongs to user 1000, not to root", f"chown root:root {agent}")
    assert not flaw.is_safe, "whoever owned it may have changed it"
    assert host.calls == []


def test_a_directory_above_that_others_may_change_is_told_and_not_mended(host: FakeHost, agent: str) -> None:
    os.chmod(host.path("/usr/local"), 0o777)
    (flaw,) = trust_flaws(host, agent)
    assert flaw.path == "/usr/local"
    assert not flaw.is_safe, "somebody may rely on it"


def test_a_sticky_directory_above_is_no_flaw(host: FakeHost, agent: str) -> None:
    os.chmod(host.path("/usr/local"), 0o1777)
    assert trust_flaws(host, agent) == []


@pytest.mark.parametrize("link", ["/usr/local/bin", "/usr/local/bin/dso-agent"])
def test_where_a_link_leads_others_may_change_nothing_either(host: FakeHost, agent: str, link: str) -> None:
    os.makedirs(host.path("/home/eve"))
    os.rename(host.path(link), host.path("/home/eve/there"))
    os.symlink(host.path("/home/eve/there"), host.path(link))
    host.owners["/home/eve"] = 1000
    flaws = program_flaws(host, find_installation(host), agent)
    assert [flaw.path for flaw in flaws] == ["/home/eve"]
    assert host.calls == []


def test_a_link_to_a_program_is_judged_by_the_program(host: FakeHost, agent: str) -> None:
    os.rename(host.path(agent), host.path("/usr/local/there"))
    os.symlink(host.path("/usr/local/there"), host.path(agent))
    assert program_flaws(host, find_installation(host), agent) == []
    os.chmod(host.path("/usr/local/there"), 0o644)
    (flaw,) = program_flaws(host, find_installation(host), agent)
    assert (flaw.path, flaw.remedy) == ("/usr/local/there", "chmod 755 /usr/local/there")


@pytest.mark.parametrize(
    ("answer", "code", "what"),
    [
        ("dso-agent 0.0.1", 0, f"is version 0.0.1, and docker-dso is {VERSION}"),
        ("cannot execute: required file not found", 127, "does not run: cannot execute: required file not found"),
        ("", 0, "does not run"),
    ],
)
def test_another_version_and_a_program_that_does_not_run(
    host: FakeHost, agent: str, answer: str, code: int, what: str
) -> None:
    host.says[f"{AGENT} --version"] = (answer, code)
    (flaw,) = program_flaws(host, find_installation(host), agent)
    assert what in flaw.what


def test_a_changed_program_is_not_started(host: FakeHost, agent: str) -> None:
    digest = sha256(b"agent").hexdigest()
    host.write(f"{HOME}/manifest", f"version {VERSION}\nagent yes\nfile {digest} 755 {AGENT}\n")
    assert program_flaws(host, find_installation(host), agent) == []
    host.calls.clear()
    host.write(AGENT, "another", 0o755)
    (flaw,) = program_flaws(host, find_installation(host), agent)
    assert flaw.what == "is not the file that was installed"
    assert f"{HOME}/install.sh --offline" in flaw.remedy
    assert host.calls == []


def test_the_version_of_a_plugin_that_is_not_ours_does_not_matter(host: FakeHost) -> None:
    path = f"{HOME}/plugins/dso-provider-acme"
    host.write(path, "", 0o755)
    assert program_flaws(host, find_installation(host), path, is_own=False) == []
    assert host.calls == []
