"""install.sh and uninstall.sh with small releases: what goes where, what is refused, what a cut-off download does."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.support.install import OPENSSL_111, SHELLS, USER, File, Host
from tests.support.process import run
from tests.support.release import ARCH, INSTALLER, PROVIDERS, UNITS, Key, Release, installer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FOREIGN = "aarch64" if ARCH != "aarch64" else "x86_64"
PLUGIN = "lib/docker/cli-plugins/docker-dso"
AGENT = "bin/dso-agent"
MANIFEST = "lib/dso/manifest"
SCRIPTS = [os.path.join(INSTALLER, name) for name in ("install.sh", "uninstall.sh")]


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """A directory that others may read, as pytest's are not."""
    path = tempfile.mkdtemp(prefix="dso-install-", dir="/var/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def key(place: str) -> Key:
    return Key.make(place)


@pytest.fixture(scope="module")
def release(place: str, key: Key) -> Release:
    os.mkdir(f"{place}/1")
    return Release("1.9.0", key, f"{place}/1").pack()


@pytest.fixture(scope="module")
def newer(place: str, key: Key) -> Release:
    os.mkdir(f"{place}/2")
    return Release("1.10.0", key, f"{place}/2").pack()


@pytest.fixture
def other(place: str, key: Key) -> Iterator[Release]:
    """A release to be spoilt."""
    path = tempfile.mkdtemp(dir=place)
    yield Release("2.0.0", key, path)
    shutil.rmtree(path)


@pytest.fixture
def host(place: str) -> Iterator[Host]:
    path = tempfile.mkdtemp(dir=place)
    os.chmod(path, 0o755)
    yield Host(path)
    shutil.rmtree(path)


def expected(
    release: Release, *, system: bool = True, agent: bool = True, providers: tuple[str, ...] = PROVIDERS
) -> dict[str, File]:
    """What is in /usr/local after an installation, but for the manifest."""
    places = {PLUGIN: "bin/docker-dso", "lib/dso/uninstall.sh": "uninstall.sh", "lib/dso/install.sh": "install.sh"}
    places |= {f"share/man/man1/{name}": f"man/man1/{name}" for name in ("docker-dso.1", "docker-dso-up.1")}
    places |= {"share/man/man5/dso.yaml.5": "man/man5/dso.yaml.5"}
    places |= {
        "share/bash-completion/completions/docker-dso": "completions/bash/docker-dso",
        "share/zsh/site-functions/_docker-dso": "completions/zsh/_docker-dso",
        "share/fish/vendor_completions.d/docker-dso.fish": "completions/fish/docker-dso.fish",
    }
    places |= {f"share/doc/dso/{name}": name for name in ("LICENSE", "licenses/some/LICENSE.txt", "sbom.cdx.json")}
    if agent:
        places |= {AGENT: "bin/dso-agent", "share/man/man8/dso-agent.8": "man/man8/dso-agent.8"}
        places |= {f"lib/dso/plugins/dso-provider-{each}": f"bin/dso-provider-{each}" for each in providers}
        places |= {f"lib/systemd/system/{unit}": f"systemd/{unit}" for unit in UNITS}
        places["lib/sysusers.d/dso.conf"] = "sysusers.d/dso.conf"
    if system:
        places |= {"lib/dso/install.sh": "install.sh"}
    modes = {path: 0o755 if name.startswith("bin/") or name.endswith(".sh") else 0o644 for path, name in places.items()}
    return {path: File(modes[path], release.tree[name]) for path, name in places.items()}


def installed(host: Host) -> dict[str, File]:
    """What is in /usr/local, but for the manifest."""
    return {path: file for path, file in host.files().items() if path != MANIFEST}


# Places


@pytest.mark.parametrize("shell", SHELLS)
def test_root_installs_for_the_machine_and_removes_it_without_a_trace(
    shell: str, host: Host, release: Release, newer: Release
) -> None:
    os.makedirs(f"{host.local}/bin")
    said = host.install(release, shell=shell)
    assert installed(host) == expected(release)
    assert "Next: docker dso system setup" in said.out
    before = host.files()
    stamps = {path: os.stat(f"{host.local}/{path}").st_mtime_ns for path in before}
    again = host.install(release, shell=shell)
    assert "DSO 1.9.0 is installed already; nothing to do" in again.out
    assert {path: os.stat(f"{host.local}/{path}").st_mtime_ns for path in host.files()} == stamps
    upgraded = host.install(newer, shell=shell)
    assert "DSO 1.10.0 is installed in place of 1.9.0" in upgraded.out
    assert installed(host) == expected(newer)
    host.run(*shell.split(), "/usr/local/lib/dso/uninstall.sh")
    assert host.files() == {}
    assert host.directories() == ["bin"], "what was there before the installation stays, and nothing else"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_user_gets_the_command_line_only(shell: str, host: Host, release: Release) -> None:
    said = host.install(release, shell=shell, user=True)
    found = host.files(host.home)
    share = {path.removeprefix("share/"): file for path, file in expected(release, system=False, agent=False).items()}
    plugin, uninstaller = share.pop(PLUGIN), share.pop("lib/dso/uninstall.sh")
    del share["lib/dso/install.sh"]  # for `docker dso system setup`, which is root's
    assert {f".local/share/{path}": file for path, file in share.items()} | {
        ".docker/cli-plugins/docker-dso": plugin,
        ".local/share/dso/uninstall.sh": uninstaller,
        ".local/share/dso/manifest": found[".local/share/dso/manifest"],
    } == found
    assert "Next: docker dso init" in said.out
    assert host.files() == {}
    host.run(*shell.split(), f"{host.home}/.local/share/dso/uninstall.sh", user=True)
    assert os.listdir(host.home) == []


def test_docker_config_and_xdg_data_home_are_honoured(host: Host, release: Release) -> None:
    env = {"DOCKER_CONFIG": f"{host.home}/d c", "XDG_DATA_HOME": f"{host.home}/data"}
    host.install(release, user=True, env=env)
    assert sorted(os.listdir(host.home)) == ["d c", "data"]
    assert os.access(f"{host.home}/d c/cli-plugins/docker-dso", os.X_OK)


def test_the_tools_of_busybox_are_enough(host: Host, release: Release, newer: Release, other: Release) -> None:
    directory = f"{host.directory}/programs"
    os.makedirs(directory)
    busybox = shutil.which("busybox") or ""
    for name in run([busybox, "--list"]).out.split():
        os.symlink(busybox, f"{directory}/{name}")
    for name in ("openssl", "unshare", "getconf"):
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")
        os.symlink(f"/usr/bin/{name}", f"{directory}/{name}")
    host.path = directory
    for each in (release, newer):
        host.install(each, shell="busybox sh")
        assert installed(host) == expected(each)
    before = host.files()
    other.tree["bin/docker-dso"] = b"#!/bin/sh\nexit 1\n"
    assert "does not run on this machine" in host.install(other.pack(), shell="busybox sh", check=False).err
    assert host.files() == before
    for spoil, _ in REFUSED.values():
        spoilt = Release("2.0.0", release.key, other.directory)
        spoil(spoilt)
        assert host.install(spoilt.pack(sign=False), shell="busybox sh", check=False).returncode == 1
        assert host.files() == before
    host.run("busybox", "sh", "/usr/local/lib/dso/uninstall.sh")
    assert host.files() == {}


def test_modes_do_not_depend_on_the_callers_umask(host: Host, release: Release) -> None:
    host.run("sh", "-c", 'umask 077; exec sh "$@"', "sh", release.script, "--offline", release.tarball)
    assert installed(host) == expected(release)
    assert {os.stat(f"{host.local}/{path}").st_mode & 0o777 for path in host.directories()} == {0o755}


def test_a_prefix_holds_all_but_what_docker_and_systemd_look_for_elsewhere(host: Host, release: Release) -> None:
    prefix = f"{host.directory}/opt"
    host.install(release, "--prefix", prefix)
    assert sorted(os.listdir(prefix)) == ["bin", "lib", "share"]
    assert set(host.files()) == {PLUGIN, "lib/sysusers.d/dso.conf", *(f"lib/systemd/system/{unit}" for unit in UNITS)}
    unit = host.files()["lib/systemd/system/dso-agent.service"].content.decode()
    assert f"\nExecStart={prefix}/bin/dso-agent\n" in unit
    assert f"\nEnvironment=DSO_PLUGIN_DIR={prefix}/lib/dso/plugins\n" in unit
    host.run(f"{prefix}/lib/dso/uninstall.sh")
    assert host.files() == {}
    assert not os.path.exists(prefix)


def test_the_choice_of_providers_stays_until_another_is_made(host: Host, release: Release, newer: Release) -> None:
    host.install(release, "--providers", "vault,aws")
    assert installed(host) == expected(release, providers=("vault", "aws"))
    host.install(newer)
    assert installed(host) == expected(newer, providers=("vault", "aws"))
    host.install(newer, "--no-agent")
    assert installed(host) == expected(newer, agent=False)
    host.install(newer)
    assert installed(host) == expected(newer, agent=False)
    host.install(newer, "--providers=all")
    assert installed(host) == expected(newer)


def test_a_dry_run_shows_what_it_would_do_and_changes_nothing(host: Host, release: Release, newer: Release) -> None:
    said = host.install(release, "--dry-run")
    assert "/usr/local/bin/dso-agent" in said.out
    assert "Nothing was changed" in said.out
    assert host.directories() == []
    host.install(release)
    before = host.files()
    assert "DSO 1.10.0 would be installed in place of 1.9.0" in host.install(newer, "--dry-run").out
    assert host.files() == before


def test_a_release_that_is_unpacked_already_is_verified_and_installed_as_well(host: Host, release: Release) -> None:
    run(["tar", "-C", host.directory, "-xzf", release.tarball])
    script = f"{host.directory}/{release.top}/install.sh"
    host.run("sh", script, "--offline", f"{host.directory}/{release.top}")
    assert installed(host) == expected(release)
    with open(f"{host.directory}/{release.top}/bin/dso-agent", "a") as file:
        file.write("# more\n")
    refused = host.run("sh", script, "--offline", f"{host.directory}/{release.top}", check=False)
    assert "bin/dso-agent is not what was signed" in refused.err


# What is refused, with nothing changed


def tampered(release: Release) -> None:
    release.sign()
    release.tree["bin/docker-dso"] += b"# more\n"


def with_other_sums(release: Release) -> None:
    release.sign()
    signature = release.tree["SHA256SUMS.sig"]
    release.tree["bin/docker-dso"] += b"# more\n"
    release.sign()
    release.tree["SHA256SUMS.sig"] = signature


def with_another_key(release: Release) -> None:
    path = tempfile.mkdtemp(dir=release.directory)
    release.key = Key.make(path)
    release.sign()


def unsigned(release: Release) -> None:
    release.sign()
    del release.tree["SHA256SUMS.sig"]


def with_an_extra_file(release: Release) -> None:
    release.sign()
    release.tree["systemd/evil.service"] = b""


def without_a_file(release: Release) -> None:
    release.sign()
    del release.tree["bin/dso-agent"]


def of_another_version(release: Release) -> None:
    release.tree["VERSION"] = b"2.0.1\n"
    release.sign()


def for_another_processor(release: Release) -> None:
    """Packed anew, under the name of this machine's: everything that is signed is right."""
    release.tree["bin/dso-agent"] = elf(FOREIGN)
    release.sign()


def with_thousands_of_files(release: Release) -> None:
    release.sign()
    release.extra += [(tarfile.TarInfo(f"{release.top}/{number}"), b"") for number in range(10_001)]


def elf(arch: str) -> bytes:
    """The beginning of a program for this processor."""
    number = {"x86_64": 0x3E, "aarch64": 0xB7}[arch]
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, number)


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Release], None]:
    def spoil(release: Release) -> None:
        release.sign()
        info = tarfile.TarInfo(name.replace("TOP", release.top))
        info.type, info.linkname = kind, link.replace("TOP", release.top)
        release.extra.append((info, b""))

    return spoil


REFUSED = {
    "a changed program": (tampered, "is not what was signed"),
    "changed checksums": (with_other_sums, "the signature is not of DSO's release key"),
    "another key": (with_another_key, "the signature is not of DSO's release key"),
    "no signature": (unsigned, "not signed"),
    "a file too many": (with_an_extra_file, "other files than its SHA256SUMS"),
    "a file too few": (without_a_file, "other files than its SHA256SUMS"),
    "another version": (of_another_version, "this is version 2.0.1, not 2.0.0"),
    "a file elsewhere": (entry("/etc/evil"), "the archive has odd file names, or some outside"),
    "a file above": (entry("TOP/../../evil"), "odd file names"),
    "a link": (entry("TOP/evil", tarfile.SYMTYPE, "/etc/passwd"), "the archive has links"),
    "a hard link": (entry("TOP/evil", tarfile.LNKTYPE, "TOP/VERSION"), "the archive has links"),
    "a device": (entry("TOP/evil", tarfile.CHRTYPE), "the archive has links"),
    "an odd name": (entry("TOP/ev il"), "odd file names"),
    "a name that ends as a right one": (entry("elsewhere/evil TOP/evil"), "odd file names"),
    "a directory elsewhere": (entry("elsewhere TOP/evil", tarfile.DIRTYPE), "odd file names"),
    "a program for another processor": (
        for_another_processor,
        f"dso-agent is for {FOREIGN}, and this machine is {ARCH}",
    ),
    "more files than any release has": (with_thousands_of_files, "more files than a release"),
}


@pytest.mark.parametrize("tar", ["tar", "busybox tar"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_was_not_signed_is_refused_and_nothing_changes(
    case: str, tar: str, host: Host, release: Release, other: Release
) -> None:
    spoil, message = REFUSED[case]
    host.install(release)
    if tar != "tar":
        host.pretend(tar=f'exec {tar} "$@"')
    before = host.files()
    spoil(other)
    other.pack(sign=False)
    refused = host.install(other, check=False)
    assert refused.returncode == 1
    assert message in refused.err
    assert host.files() == before


def test_a_damaged_archive_is_refused(host: Host, other: Release) -> None:
    with open(other.pack().tarball, "r+b") as file:
        file.truncate(os.path.getsize(other.tarball) // 2)
    assert "the archive is damaged" in host.install(other, check=False).err
    assert host.files() == {}


@pytest.mark.parametrize("shell", SHELLS)
def test_an_archive_that_would_fill_the_disk_is_not_unpacked(shell: str, host: Host, other: Release) -> None:
    other.pack()
    huge = tarfile.TarInfo(f"{other.top}/huge")
    huge.size = 9 << 26
    with open(other.tarball, "wb") as file:
        file.write(gzip.compress(huge.tobuf()) + gzip.compress(bytes(1 << 26), 1) * 9 + gzip.compress(bytes(1024)))
    log = f"{host.directory}/log"
    host.pretend(tar=f'echo "$*" >>{log}; exec /usr/bin/tar "$@"')
    assert "the archive is damaged, or too large" in host.install(other, shell=shell, check=False).err
    assert not os.path.exists(log)
    assert host.files() == {}


def test_programs_for_this_processor_are_accepted(host: Host, other: Release) -> None:
    other.tree["bin/dso-agent"] = elf(ARCH)
    host.install(other.pack())
    assert host.files()["bin/dso-agent"].content == elf(ARCH)


def test_a_server_that_sends_next_to_nothing_is_given_up(host: Host, release: Release) -> None:
    host.serve(release)
    host.run("dash", release.script, "--base-url", "https://dso.example")
    with open(f"{host.directory}/log") as file:
        calls = file.read().splitlines()
    assert len(calls) == 2
    assert all("--speed-limit 1000 --speed-time 60" in call for call in calls)


def test_the_source_of_the_installer_installs_nothing(host: Host, release: Release) -> None:
    refused = host.run("sh", SCRIPTS[0], "--offline", release.tarball, check=False)
    assert "no release key" in refused.err
    assert host.files() == {}


def test_a_release_for_another_processor_is_refused(host: Host, key: Key, other: Release) -> None:
    foreign = Release("2.0.0", key, other.directory, arch=FOREIGN).pack()
    assert f"and this machine is {ARCH}" in host.install(foreign, check=False).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--frobnicate"], "unknown option: --frobnicate"),
        (["--version"], "--version needs a value"),
        (["--version", "1.0/../.."], "no version: 1.0/../.."),
        (["--providers", "vault,gcp"], "no provider: gcp (there are vault aws azure huawei)"),
        (["--no-agent", "--providers", "vault"], "exclude each other"),
    ],
)
def test_a_faulty_command_line_is_explained(words: list[str], message: str, host: Host, release: Release) -> None:
    refused = host.install(release, *words, check=False)
    assert refused.returncode == 2
    assert message in refused.err


@pytest.mark.parametrize("answered", ["nothing", "docker-cli-plugin-metadata"])
def test_a_program_that_does_not_run_here_is_not_installed(
    answered: str, host: Host, release: Release, other: Release
) -> None:
    """Not even if its boot loader, which answers the metadata, does."""
    host.install(release)
    before = host.files()
    other.tree["bin/docker-dso"] = f"""#!/bin/sh
        [ "$1" != {answered} ] || exec echo '"{other.version}"'
        echo 'libc.so.6: version GLIBC_2.99 not found' >&2; exit 1
        """.encode()
    refused = host.install(other.pack(), check=False)
    assert "GLIBC_2.99 not found" in refused.err
    assert "docker-dso does not run on this machine" in refused.err
    assert "what was there before is there still" in refused.err
    assert host.files() == before


def test_a_home_of_somebody_else_is_refused(host: Host, release: Release) -> None:
    os.chown(host.home, 0, 0)
    refused = host.install(release, user=True, check=False)
    assert f"{host.home} is not yours" in refused.err
    os.chown(host.home, USER, USER)
    os.mkdir(f"{host.home}/.docker")
    refused = host.install(release, user=True, check=False)
    assert f"you may not write to {host.home}/.docker" in refused.err


@pytest.mark.parametrize("name", ["DOCKER_CONFIG", "XDG_DATA_HOME"])
def test_a_place_that_depends_on_where_one_is_is_refused(name: str, host: Host, release: Release) -> None:
    refused = host.install(release, user=True, env={name: "some/where"}, check=False)
    assert "no absolute path: some/where" in refused.err
    assert os.listdir(host.home) == []


def test_a_prefix_that_a_unit_cannot_have_is_refused(host: Host, release: Release) -> None:
    for prefix in ("/opt/d s o", "/opt/100%"):
        refused = host.install(release, "--prefix", prefix, check=False)
        assert "a character that a unit of systemd cannot have" in refused.err
    assert host.files() == {}


def test_the_name_of_an_unpacked_release_is_no_option_of_tar(host: Host, release: Release) -> None:
    directory = f"{host.directory}/--use-compress-program=evil"
    os.mkdir(directory)
    assert "is no release of DSO" in host.run("sh", release.script, "--offline", directory, check=False).err


# Uninstalling


def test_a_manifest_that_lies_about_is_not_the_one_of_a_script_without_a_place(host: Host, release: Release) -> None:
    host.install(release)
    os.mkdir(f"{host.directory}/shared")
    kept = f"{host.directory}/kept"
    for path, content in ((kept, ""), (f"{host.directory}/shared/manifest", f"file 0 644 {kept}\n")):
        with open(path, "w") as file:
            file.write(content)
    host.run("sh", "-c", f"cd {host.directory}/shared && sh < {SCRIPTS[1]}")
    assert os.path.exists(kept)
    assert host.files() == {}


def test_without_an_answer_of_the_engine_the_agent_stays(host: Host, release: Release) -> None:
    host.pretend(docker="exit 1")
    host.install(release)
    before = host.files()
    refused = host.run("/usr/local/lib/dso/uninstall.sh", check=False)
    assert "the Docker Engine does not say whether containers need the agent" in refused.err
    assert host.files() == before
    host.run("/usr/local/lib/dso/uninstall.sh", "--force")
    assert host.files() == {}


# Surroundings, by programs that say what those of another machine would


@pytest.mark.parametrize(
    ("program", "script", "message"),
    [
        ("uname", "case $1 in -m) echo riscv64;; *) echo Linux;; esac", "there is no DSO for riscv64"),
        ("uname", "echo Darwin", "DSO runs on Linux, and this is Darwin"),
        ("getconf", 'case $1 in LONG_BIT) echo 32;; *) echo "glibc 2.36";; esac', "no DSO for 32-bit systems"),
        ("getconf", 'case $1 in LONG_BIT) echo 64;; *) echo "glibc 2.27";; esac', "glibc 2.27, and DSO needs 2.28"),
    ],
)
def test_a_system_that_dso_is_not_for_is_named(
    program: str, script: str, message: str, host: Host, release: Release
) -> None:
    host.pretend(**{program: script})
    refused = host.install(release, check=False)
    assert message in refused.err
    assert host.files() == {}


def test_musl_is_named(host: Host, release: Release) -> None:
    host.pretend(getconf="exit 1", ldd="echo 'musl libc (x86_64)' >&2; exit 1")
    assert "the C library musl, and DSO needs glibc" in host.install(release, check=False).err


def test_ldd_answers_where_there_is_no_getconf(host: Host, release: Release) -> None:
    host.pretend(getconf="exit 1", ldd="echo 'ldd (Debian GLIBC 2.31-13+deb11u11) 2.31'")
    host.install(release)
    host.pretend(ldd="echo 'ldd (GNU libc) 2.17'")
    assert "glibc 2.17, and DSO needs 2.28" in host.install(release, check=False).err


def test_without_openssl_nothing_is_installed_unverified(host: Host, release: Release) -> None:
    directory = f"{host.directory}/programs"
    os.makedirs(directory)
    for name in os.listdir("/usr/bin"):
        if name not in ("openssl", "sha256sum"):
            os.symlink(f"/usr/bin/{name}", f"{directory}/{name}")
    # /usr/sbin and /sbin are added by the script itself
    host.path = directory
    refused = host.install(release, check=False)
    assert "openssl is missing, and without it the signature cannot be verified" in refused.err
    os.symlink("/usr/bin/openssl", f"{directory}/openssl")
    host.install(release)  # without sha256sum
    assert installed(host) == expected(release)


def test_openssl_1_1_1_verifies_as_well(host: Host, release: Release, other: Release) -> None:
    host.pretend(openssl=OPENSSL_111)
    host.install(release)
    assert installed(host) == expected(release)
    with_other_sums(other)
    other.tree["SHA256SUMS.csr"] = release.tree["SHA256SUMS.csr"]
    other.pack(sign=False)
    assert "the signature is not of DSO's release key" in host.install(other, check=False).err
    with_another_key(other)
    assert "the signature is not of DSO's release key" in host.install(other.pack(sign=False), check=False).err
    del other.tree["SHA256SUMS.csr"]
    assert "cannot verify this release" in host.install(other.pack(sign=False), check=False).err


def test_a_broken_request_signature_is_refused_by_what_openssl_says(host: Host, other: Release) -> None:
    host.pretend(openssl=OPENSSL_111)
    other.sign()
    run(["openssl", "req", "-outform", "DER", "-out", f"{host.directory}/r"], input=other.tree["SHA256SUMS.csr"])
    with open(f"{host.directory}/r", "rb") as file:
        content = bytearray(file.read())
    content[-1] ^= 1
    other.tree["SHA256SUMS.csr"] = run(["openssl", "req", "-inform", "DER"], input=bytes(content)).stdout
    assert "the signature is not of DSO's release key" in host.install(other.pack(sign=False), check=False).err


def test_a_temporary_directory_without_execution_is_good_enough(host: Host, release: Release) -> None:
    usual = host.install(release)
    host.reset()
    run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", host.tmp])
    try:
        said = host.install(release)
    finally:
        run(["umount", host.tmp])
    assert (said.out, said.err) == (usual.out, usual.err)
    assert installed(host) == expected(release)


def test_an_old_compose_and_no_docker_are_warned_about(host: Host, release: Release) -> None:
    host.pretend(docker="echo v2.21.0")
    assert "Compose is 2.21.0: `docker dso up` needs 2.24 or newer" in host.install(release).err
    for good in ("2.24.0", "v2.39.1", "5.0.0"):
        host.reset()
        host.pretend(docker=f"echo {good}")
        assert "Compose" not in host.install(release).err
    host.reset()
    host.pretend(docker="exit 1")
    assert "Docker has no Compose plugin" in host.install(release).err


# Downloads


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.com/dso", "is not encrypted"),
        ("http://localhost.example.com", "is not encrypted"),
        ("http://127.0.0.1.example.com:80/x", "is not encrypted"),
        ("http://localhost@example.com/", "no address to download from"),
        ("ftp://example.com", "begins with https://"),
        ("file:///etc", "begins with https://"),
        ("https://example.com/$(id)", "no address to download from"),
        ("", "no address to download from"),
    ],
)
def test_other_addresses_than_https_are_refused(url: str, message: str, host: Host, release: Release) -> None:
    host.pretend(curl="echo asked >&2; exit 1")
    words = ["sh", release.script]
    refused = host.run(*words, check=False, env={"DSO_BASE_URL": url})
    assert message in refused.err
    assert "asked" not in refused.err


def test_the_latest_version_or_the_one_that_is_named_is_downloaded(
    host: Host, release: Release, newer: Release
) -> None:
    log = f"{host.directory}/log"
    served = host.serve(release, newer)
    words = ["sh", newer.script, "--base-url", "https://dso.example/releases/"]
    host.run(*words)
    assert installed(host) == expected(newer)
    with open(log) as file:
        asked = file.read()
    assert asked.count("--proto =https --proto-redir =https") == 2
    assert f"https://dso.example/releases/{newer.top}.tar.gz" in asked
    assert "nothing to do" in host.run(*words).out
    host.run(*words, "--version", "v1.9.0")
    assert installed(host) == expected(release)
    assert os.listdir(host.tmp) == []

    host.run(*words)
    shutil.copy(f"{release.directory}/latest", served)
    refused = host.run(*words, check=False)
    assert "DSO 1.10.0 is installed, and https://dso.example/releases offers an older one, 1.9.0" in refused.err
    assert installed(host) == expected(newer)


def test_a_release_follows_its_candidates_and_not_the_other_way_round(host: Host, key: Key) -> None:
    versions = ("2.0.0-rc9", "2.0.0-rc10", "2.0.0")
    earlier, candidate, final = (Release(each, key, f"{host.directory}/{each}").pack() for each in versions)
    words = ["sh", final.script, "--base-url", "https://dso.example"]
    host.serve(earlier)
    host.run(*words)
    host.serve(candidate)
    assert "DSO 2.0.0-rc10 is installed in place of 2.0.0-rc9" in host.run(*words).out
    host.serve(final)
    assert "DSO 2.0.0 is installed in place of 2.0.0-rc10" in host.run(*words).out
    host.serve(candidate)
    assert "DSO 2.0.0 is installed, and" in host.run(*words, check=False).err


def test_wget_serves_where_there_is_no_curl(host: Host, release: Release) -> None:
    directory = f"{host.directory}/programs"
    os.makedirs(directory)
    for name in os.listdir("/usr/bin"):
        if name not in ("curl", "wget"):
            os.symlink(f"/usr/bin/{name}", f"{directory}/{name}")
    host.path = directory
    words = ["sh", release.script, "--base-url", "http://127.0.0.1:1"]
    assert "neither curl nor wget is here" in host.run(*words, check=False).err
    with open(f"{directory}/wget", "w") as file:
        file.write(
            f'#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" != -O ] || to=$2; shift; done\n'
            f'exec cp "{release.directory}/${{1##*/}}" "$to"\n'
        )
    os.chmod(f"{directory}/wget", 0o755)
    host.run(*words)
    assert installed(host) == expected(release)


# The scripts themselves


def test_shellcheck_finds_nothing() -> None:
    run(["shellcheck", *SCRIPTS])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_download_that_was_cut_off_does_nothing(shell: str, key: Key, tmp_path: Path) -> None:
    """A shell runs a command when it has read all of it, and this script is one: a group, up to its last `}`.

    So only a beginning that ends in `}` could be a whole command: all of those are tried, and some others.
    """
    script = installer(key).rstrip()
    start = script.index(b"\n{\n") + 1
    assert all(line.startswith(b"#") for line in script[:start].splitlines()), "nothing but comments before"
    assert script.endswith(b"exit; }")
    closing = [at for at in range(start, len(script)) if script[at - 1 : at] == b"}"]
    assert len(closing) > 100
    for length in (*closing, *range(start + 1, len(script), 997), *range(len(script) - 30, len(script))):
        ended = subprocess.run(
            [shutil.which(shell.split(maxsplit=1)[0]) or shell, *shell.split()[1:]],
            input=script[:length],
            env={"PATH": "/nowhere"},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 2, length
        assert b"yntax error" in ended.stderr, (length, ended.stderr)
        assert ended.stdout == b""
