"""What another user laid in the installer's way decides nothing; nothing of anybody's is removed or replaced."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.support.install import SHELLS, USER, Host
from tests.support.process import run
from tests.support.release import INSTALLER, Key, Release

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = [os.path.join(INSTALLER, name) for name in ("install.sh", "uninstall.sh")]
UNINSTALL = "/usr/local/lib/dso/uninstall.sh"
OTHER = USER + 1


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="dso-install-", dir="/var/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def release(place: str) -> Release:
    return Release("1.9.0", Key.make(place), f"{place}/1").pack()


@pytest.fixture(scope="module")
def newer(place: str, release: Release) -> Release:
    return Release("1.10.0", release.key, f"{place}/2").pack()


@pytest.fixture
def host(place: str) -> Iterator[Host]:
    path = tempfile.mkdtemp(dir=place)
    os.chmod(path, 0o755)
    yield Host(path)
    shutil.rmtree(path)


@pytest.fixture
def kept(host: Host) -> str:
    """A file that is none of DSO's, which an attacker wants to be removed."""
    write(f"{host.directory}/kept", "somebody's\n")
    return f"{host.directory}/kept"


def write(path: str, text: str, owner: int = 0, mode: int = 0o644) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chown(path, owner, owner)
    os.chmod(path, mode)


def shared(host: Host, owner: int = USER, mode: int = 0o755) -> str:
    """A directory that is not root's alone."""
    path = f"{host.directory}/shared"
    os.mkdir(path)
    os.chown(path, owner, owner)
    os.chmod(path, mode)
    return path


# The manifest


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("of_directory", "of_manifest", "message"),
    [
        ((USER, 0o755), USER, "shared belongs to another user"),
        ((0, 0o777), USER, "other users may write to"),
        ((0, 0o1777), USER, "shared/manifest belongs to another user"),
        ((0, 0o775), 0, "other users may write to"),
        ((0, 0o755), USER, "shared/manifest belongs to another user"),
    ],
    ids=["a directory of theirs", "one for all", "one like /tmp", "one of a group", "a file of theirs"],
)
def test_uninstall_removes_nothing_by_a_manifest_that_another_user_laid_beside_it(
    shell: str, of_directory: tuple[int, int], of_manifest: int, message: str, host: Host, release: Release, kept: str
) -> None:
    host.install(release)
    before = host.files()
    directory = shared(host, *of_directory)
    shutil.copy(SCRIPTS[1], f"{directory}/uninstall.sh")
    write(f"{directory}/manifest", f"agent yes\nfile 0 644 {kept}\n", of_manifest)
    refused = host.run(*shell.split(), f"{directory}/uninstall.sh", check=False)
    assert (os.path.exists(kept), host.files()) == (True, before)
    assert refused.returncode == 1
    assert message in refused.err


def test_a_manifest_that_is_a_link_to_another_users_file_is_not_followed(
    host: Host, release: Release, kept: str
) -> None:
    host.install(release)
    theirs = shared(host)
    write(f"{theirs}/list", f"agent yes\nfile 0 644 {kept}\n", USER)
    os.unlink(f"{host.local}/lib/dso/manifest")
    os.symlink(f"{theirs}/list", f"{host.local}/lib/dso/manifest")
    for words in ([UNINSTALL], ["dash", release.script, "--offline", release.tarball]):
        refused = host.run(*words, check=False)
        assert "/usr/local/lib/dso/manifest is not trusted" in refused.err
        assert os.path.exists(kept)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "line",
    [
        "file 0 644 KEPT",
        "file 0 644 /usr/local/lib/dso/plugins/dso-provider-x/../../../../../..KEPT",
        "file 0 644 /usr/local/lib/systemd/system/ssh.service",
        "file 0 644 /usr/local/lib/systemd/system/dso-agent.service ssh.service",
        "file 0 644 /usr/local/bin/docker",
        "dir /usr/local/lib/other",
        "dir /usr/local/share/doc/dso/../../../lib/other",
    ],
)
def test_a_manifest_names_only_what_dso_installs_or_nothing_is_removed(
    shell: str, line: str, host: Host, release: Release, newer: Release, kept: str
) -> None:
    host.install(release)
    os.mkdir(f"{host.local}/lib/other")
    path = f"{host.local}/lib/dso/manifest"
    with open(path, "a") as file:
        file.write(line.replace("KEPT", kept) + "\n")
    before = host.files(), host.directories()
    for words in ([UNINSTALL], [newer.script, "--offline", newer.tarball]):
        refused = host.run(*shell.split(), *words, check=False)
        assert (refused.returncode, host.files(), host.directories()) == (1, *before)
        assert os.path.exists(kept)
        assert "which DSO does not" in refused.err


def test_every_file_of_a_release_is_one_that_uninstall_knows(host: Host, newer: Release) -> None:
    """With a prefix, for a user, and through a link to where it is."""
    os.mkdir(f"{host.directory}/disk")
    os.symlink(f"{host.directory}/disk", f"{host.directory}/link")
    prefix = f"{host.directory}/link/opt"
    host.install(newer, "--prefix", prefix)
    host.run(f"{prefix}/lib/dso/uninstall.sh")
    assert (host.files(), os.listdir(f"{host.directory}/disk")) == ({}, [])
    environment = {"DOCKER_CONFIG": f"{host.home}/d c", "XDG_DATA_HOME": f"{host.home}//data"}
    for env in ({}, environment):
        host.install(newer, user=True, env=env)
        (script,) = [path for path in host.files(host.home) if path.endswith("/uninstall.sh")]
        host.run("sh", f"{host.home}/{script}", user=True)
        assert os.listdir(host.home) == []


# The journal


@pytest.mark.parametrize("name", [".journal", ".journal.done"])
def test_a_journal_of_another_user_puts_nothing_in_place_and_removes_nothing(
    name: str, host: Host, release: Release, newer: Release, kept: str
) -> None:
    host.install(release)
    write(f"{host.directory}/kept.dso-old", "theirs\n", USER)
    write(f"{host.local}/lib/dso/{name}", f"old {kept}\nnew {kept}\n", USER)
    before = host.files()
    for words in ([UNINSTALL], ["dash", newer.script, "--offline", newer.tarball]):
        refused = host.run(*words, check=False)
        assert f"/usr/local/lib/dso/{name} is not trusted" in refused.err
        assert host.files() == before
    with open(kept) as file:
        assert file.read() == "somebody's\n"
    assert os.path.exists(f"{kept}.dso-old")
    os.chown(f"{host.local}/lib/dso/{name}", 0, 0)  # nor does one that came to be root's
    refused = host.run("dash", newer.script, "--offline", newer.tarball, check=False)
    assert f"it lists {kept}, which DSO does not install" in refused.err
    assert host.files() == before


def test_a_home_that_another_user_made_first_is_refused(host: Host, release: Release, kept: str) -> None:
    os.makedirs(f"{host.local}/lib/dso")
    write(f"{host.local}/lib/dso/.journal", f"new {kept}\n", USER)
    os.chown(f"{host.local}/lib/dso", USER, USER)
    refused = host.install(release, check=False)
    assert "/usr/local/lib/dso is not trusted: /usr/local/lib/dso belongs to another user" in refused.err
    assert os.path.exists(kept)


# Where files go


@pytest.mark.parametrize(
    "directory", ["lib", "lib/docker/cli-plugins", "bin", "share/man/man1", "lib/systemd/system", "lib/dso/plugins"]
)
@pytest.mark.parametrize("how", ["of the group staff", "of another user", "a link to another user's"])
def test_root_installs_nothing_where_another_user_can_change_it(
    directory: str, how: str, host: Host, release: Release
) -> None:
    path = f"{host.local}/{directory}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if how.startswith("a link"):
        theirs = shared(host)
        os.symlink(theirs, path)
    else:
        os.mkdir(path)
        os.chown(path, USER if how == "of another user" else 0, 50)
        os.chmod(path, 0o2775 if how == "of the group staff" else 0o755)
    refused = host.install(release, check=False)
    assert refused.returncode == 1
    assert ("(chmod go-w " if how == "of the group staff" else "belongs to another user") in refused.err
    assert [name for _, _, names in os.walk(host.directory) for name in names] == []


def test_a_link_in_a_sticky_directory_counts_as_its_owners(host: Host, release: Release) -> None:
    """Root's link leads into it, where somebody else's leads on to a directory of root's."""
    sticky = shared(host, 0, 0o1777)
    os.mkdir(f"{host.directory}/right")
    os.symlink(f"{host.directory}/right", f"{sticky}/next")
    os.chown(f"{sticky}/next", USER, USER, follow_symlinks=False)
    os.symlink(f"{sticky}/next", f"{host.local}/share")
    assert f"{sticky}/next belongs to another user" in host.install(release, check=False).err
    os.chown(f"{sticky}/next", 0, 0, follow_symlinks=False)
    host.install(release)
    assert os.path.exists(f"{host.directory}/right/man/man8/dso-agent.8")


def test_links_in_a_circle_are_no_place(host: Host, release: Release) -> None:
    os.symlink("share", f"{host.local}/share")
    refused = host.install(release, check=False)
    assert refused.returncode == 1
    assert "is a link to itself" in refused.err


@pytest.mark.parametrize("variable", ["DOCKER_CONFIG", "XDG_DATA_HOME"])
def test_a_user_installs_nothing_where_another_user_can_change_it(variable: str, host: Host, release: Release) -> None:
    theirs = shared(host, OTHER, 0o777)
    os.mkdir(f"{theirs}/inside")
    os.chown(f"{theirs}/inside", USER, USER)
    refused = host.install(release, user=True, env={variable: f"{theirs}/inside"}, check=False)
    assert f"{theirs} belongs to another user" in refused.err
    os.chown(theirs, 0, 0)
    refused = host.install(release, user=True, env={variable: f"{theirs}/inside"}, check=False)
    assert f"other users may write to {theirs} (chmod go-w {theirs})" in refused.err
    assert host.files(host.home) == {}


def test_a_users_own_group_may_write_as_the_user_may(host: Host, release: Release) -> None:
    """As Debian and Fedora have it: a group of the user's name, and a umask of 002."""
    os.mkdir(f"{host.home}/.docker")
    os.chown(f"{host.home}/.docker", USER, USER)
    os.chmod(f"{host.home}/.docker", 0o775)
    host.install(release, user=True)
    os.chown(f"{host.home}/.docker", USER, 50)
    os.chmod(f"{host.home}/.docker", 0o775)
    assert f"other users may write to {host.home}/.docker" in host.install(release, user=True, check=False).err


# What root may have got from a user


@pytest.mark.parametrize("theirs", ["another user's directory", "the present directory", "one that is not there yet"])
@pytest.mark.parametrize("shell", SHELLS)
def test_root_runs_no_program_from_a_directory_of_another_user(
    shell: str, theirs: str, host: Host, release: Release
) -> None:
    directory = shared(host, 0 if theirs.startswith("one") else USER, 0o1777)
    log = f"{host.directory}/log"
    for name in ("tar", "openssl", "find", "id", "docker", "sed", "rm"):
        write(f"{directory}/{name}", f'#!/bin/sh\necho {name} >>{log}\nexec /usr/bin/{name} "$@"\n', USER, 0o755)
    first = {
        "another user's directory": directory,
        "the present directory": ".",
        "one that is not there yet": directory,
    }
    env = {"PATH": f"{first[theirs]}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for words in ([release.script, "--offline", release.tarball], [UNINSTALL]):
        script = f'cd {directory} && exec "$@"'
        said = host.run("/bin/sh", "-c", script, "sh", *f"/bin/{shell}".split(), *words, env=env)
        assert f"not used of PATH, since others than root may write there: {first[theirs]}\n" in said.err
    assert not os.path.exists(log)
    assert host.files() == {}


def test_root_asks_docker_without_the_plugins_and_contexts_of_another_user(host: Host, release: Release) -> None:
    log = f"{host.directory}/log"
    host.pretend(docker=f'echo "$HOME ${{DOCKER_CONFIG-unset}} $1" >>{log}')
    for env in ({"HOME": host.home}, {"DOCKER_CONFIG": f"{host.home}/.docker"}):
        host.run("dash", release.script, "--offline", release.tarball, env=env)
        host.run(UNINSTALL, env=env)
    with open(log) as file:
        homes = ("/", "/nowhere")  # what is safe of both stays
        assert file.read() == "".join(f"{home} unset compose\n{home} unset volume\n" for home in homes)
    host.run("dash", release.script, "--offline", release.tarball, env={"HOME": "/root"})
    with open(log) as file:
        assert file.read().splitlines()[-1] == "/root unset compose"


def test_a_temporary_directory_of_another_user_is_refused(host: Host, release: Release) -> None:
    theirs = shared(host)
    refused = host.run("dash", release.script, "--offline", release.tarball, env={"TMPDIR": theirs}, check=False)
    assert f"the temporary directory is not safe: {theirs} belongs to another user" in refused.err
    assert (host.files(), os.listdir(theirs)) == ({}, [])


def test_variables_of_tools_decide_nothing_for_root(host: Host, release: Release) -> None:
    made = f"{host.directory}/made"
    env = {"TAR_OPTIONS": f"--checkpoint=1 --checkpoint-action=exec='touch {made}'"}
    host.run("dash", release.script, "--offline", release.tarball, env=env)
    assert not os.path.exists(made)


def test_purge_leaves_a_vault_that_another_user_owns(host: Host, release: Release) -> None:
    host.install(release)
    vault = f"{host.directory}/roots/.dso"
    write(f"{vault}/vault.enc", "theirs", USER)
    os.chown(vault, USER, USER)
    host.pretend(getent=f"echo root:x:0:0:root:{host.directory}/roots:/bin/sh")
    # /etc/dso and /var/lib/dso are not ours to remove here
    host.pretend(rm='case "$*" in *etc/dso* | *var/lib/dso*) ;; *) exec /bin/rm "$@" ;; esac')
    host.run(UNINSTALL, "--purge", "--yes", "--force")
    assert os.path.exists(f"{vault}/vault.enc")
    assert host.files() == {}


def test_both_scripts_have_the_same_rules(host: Host) -> None:
    def rules(path: str) -> str:
        with open(path) as file:
            return (
                file.read().partition("# Who is trusted, and with what.")[2].partition("# From here on they differ.")[0]
            )

    assert len(rules(SCRIPTS[0]).splitlines()) > 100
    assert rules(SCRIPTS[0]) == rules(SCRIPTS[1])


def test_the_machine_of_these_tests_is_as_they_need_it() -> None:
    """Root's own directories: otherwise a refusal would show nothing."""
    for path in ("/", "/usr", "/var", "/bin", "/usr/bin"):
        status = os.stat(path)
        assert (status.st_uid, status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) == (0, 0)
    assert run(["id", "-u"]).out == "0\n"
