"""`latest` and the release it names: nobody gets an older one than they have, or than was signed as the latest."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from build.release import latest
from tests.support.install import OPENSSL_111, SHELLS, Host
from tests.support.release import Key, Release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

URL = "https://dso.example"
DAY = 86_400


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="dso-install-", dir="/var/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def key(place: str) -> Key:
    return Key.make(place)


@pytest.fixture(scope="module")
def releases(place: str, key: Key) -> tuple[Release, Release]:
    former, new = (Release(version, key, f"{place}/{version}") for version in ("1.9.0", "1.10.0"))
    return former.pack(), new.pack()


@pytest.fixture
def host(place: str) -> Iterator[Host]:
    path = tempfile.mkdtemp(dir=place)
    os.chmod(path, 0o755)
    yield Host(path)
    shutil.rmtree(path)


def write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def version(host: Host) -> str:
    """What is installed; nothing if nothing is."""
    found = host.files().get("lib/dso/manifest")
    return "" if found is None else found.content.decode().partition("\nversion ")[2].partition("\n")[0]


# What is served as `latest`


def unsigned(key: Key, _: str) -> bytes:
    return b"".join(latest.render("1.9.0", key.path, time.time()).splitlines(keepends=True)[:3])


def by_another_key(_: Key, directory: str) -> bytes:
    return latest.render("1.9.0", Key.make(f"{directory}/another").path, time.time())


def with_another_version(key: Key, _: str) -> bytes:
    return latest.render("1.10.0", key.path, time.time()).replace(b"1.10.0", b"1.9.0", 1)


def with_another_day(key: Key, _: str) -> bytes:
    return latest.render("1.9.0", key.path, time.time()).replace(b"until 2", b"until 3")


def checksums(key: Key, directory: str) -> bytes:
    """What is signed with the release key as well."""
    sums = b"0" * 64 + b"  VERSION\n"
    signed = key.sign(sums * 3, directory)
    return sums * 3 + b"signature " + base64.b64encode(signed["SHA256SUMS.sig"]) + b"\n" + signed["SHA256SUMS.csr"]


def run_out(key: Key, _: str) -> bytes:
    return latest.render("1.9.0", key.path, time.time() - (latest.DAYS + 1) * DAY)


def of_tomorrow(key: Key, _: str) -> bytes:
    return latest.render("1.9.0", key.path, time.time() + 2 * DAY)


def a_page(_: Key, __: str) -> bytes:
    return b"<html>\nNo such file\n</html>\n"


REFUSED: dict[str, tuple[Callable[[Key, str], bytes], str]] = {
    "no signature": (unsigned, "latest is not signed"),
    "a page of the server's": (a_page, "latest is not signed"),
    "another key": (by_another_key, "the signature of https://dso.example/latest is not of DSO's release key"),
    "another version": (with_another_version, "the signature of https://dso.example/latest is not of DSO's"),
    "another day": (with_another_day, "the signature of https://dso.example/latest is not of DSO's"),
    "signed checksums": (checksums, "latest holds no version"),
    "an old one": (run_out, "so it may be kept back"),
    "one of tomorrow": (of_tomorrow, "the clock of this machine says"),
}


@pytest.mark.parametrize(("shell", "openssl"), [("dash", "3"), ("dash", "1.1.1"), ("busybox sh", "3")])
@pytest.mark.parametrize("case", REFUSED)
def test_a_latest_that_was_not_signed_for_today_installs_nothing(
    case: str, shell: str, openssl: str, host: Host, key: Key, releases: tuple[Release, Release]
) -> None:
    served = host.serve(*releases)
    if openssl == "1.1.1":
        host.pretend(openssl=OPENSSL_111)
    make, message = REFUSED[case]
    write(f"{served}/latest", make(key, host.directory))
    words = [*shell.split(), releases[1].script, "--base-url", URL]
    refused = host.run(*words, check=False)
    assert refused.returncode == 1
    assert message in refused.err
    assert ".tar.gz" not in read(f"{host.directory}/log").decode(), "nothing is downloaded for it"
    assert host.files() == {}
    named = host.run(*words, "--version", "1.9.0")
    assert "DSO 1.9.0 is installed:" in named.out


def test_a_signed_latest_is_installed_until_its_last_day(
    host: Host, key: Key, releases: tuple[Release, Release]
) -> None:
    served = host.serve(*releases)
    now = time.time()
    write(f"{served}/latest", latest.render("1.10.0", key.path, now))
    words = ["dash", releases[1].script, "--base-url", URL]

    def on(day: float) -> None:
        host.pretend(date=f"echo {time.strftime('%Y-%m-%d', time.gmtime(day))}")

    on(now - DAY)
    assert "the clock of this machine says" in host.run(*words, check=False).err
    on(now + (latest.DAYS + 1) * DAY)
    assert "so it may be kept back" in host.run(*words, check=False).err
    assert version(host) == ""
    for day in (now + latest.DAYS * DAY, now):
        on(day)
        host.run(*words)
        assert version(host) == "1.10.0"


def test_an_older_release_served_as_the_latest_one_is_refused(host: Host, releases: tuple[Release, Release]) -> None:
    former, new = releases
    served = host.serve(former, new)
    words = ["dash", new.script, "--base-url", URL]
    host.run(*words)
    shutil.copy(f"{former.directory}/latest", served)
    refused = host.run(*words, check=False)
    assert f"DSO 1.10.0 is installed, and {URL} offers an older one, 1.9.0" in refused.err
    assert "to go back to it: --version 1.9.0" in refused.err
    assert version(host) == "1.10.0"
    host.run(*words, "--version", "1.9.0")
    assert version(host) == "1.9.0"


def test_an_older_tarball_under_the_name_of_the_latest_one_is_refused(
    host: Host, releases: tuple[Release, Release]
) -> None:
    former, new = releases
    served = host.serve(former, new)
    shutil.copy(former.tarball, f"{served}/{os.path.basename(new.tarball)}")
    refused = host.run("dash", new.script, "--base-url", URL, check=False)
    assert "some outside of dso-1.10.0" in refused.err
    renamed = Release("1.9.0", new.key, f"{host.directory}/renamed")
    os.mkdir(renamed.directory)
    renamed.sign()
    renamed.top = new.top
    renamed.tarball = f"{served}/{os.path.basename(new.tarball)}"
    renamed.pack(sign=False)
    refused = host.run("dash", new.script, "--base-url", URL, check=False)
    assert "this is version 1.9.0, not 1.10.0" in refused.err
    assert host.files() == {}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_an_older_tarball_is_installed_only_if_its_version_is_named(
    shell: str, user: bool, host: Host, releases: tuple[Release, Release]
) -> None:
    former, new = releases
    host.install(new, user=user, shell=shell)
    before = host.files(), host.files(host.home)
    refused = host.install(former, user=user, shell=shell, check=False)
    assert f"DSO 1.10.0 is installed, and {former.tarball} offers an older one, 1.9.0" in refused.err
    assert (host.files(), host.files(host.home)) == before
    refused = host.install(former, "--version", "1.8.0", user=user, shell=shell, check=False)
    assert f"{former.tarball} is version 1.9.0, not 1.8.0" in refused.err
    said = host.install(former, "--version", "1.9.0", user=user, shell=shell)
    assert "DSO 1.9.0 is installed in place of 1.10.0" in said.out


def test_a_former_version_is_not_put_in_place_of_one_that_came_while_the_installer_waited(
    host: Host, releases: tuple[Release, Release]
) -> None:
    """An installer that looked at the manifest before another one had ended looks again when it has the lock."""
    former, new = releases
    second = f"{host.directory}/second"
    os.mkdir(second)
    # the first call of `ln` takes the lock; before it does, the newer version is installed
    write(
        f"{second}/ln",
        f"#!/bin/sh\nPATH={host.path}\n[ -e {second}/done ] || {{ : >{second}/done; "
        f'dash {new.script} --offline {new.tarball} >&2; }}\nexec ln "$@"\n'.encode(),
    )
    os.chmod(f"{second}/ln", 0o755)
    host.path = f"{second}:{host.path}"
    refused = host.install(former, check=False)
    assert "DSO 1.10.0 is installed, and" in refused.err
    assert version(host) == "1.10.0"


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_a_download_without_an_end_is_ended(program: str, host: Host, releases: tuple[Release, Release]) -> None:
    endless = 'while [ $# -gt 1 ]; do case $1 in -o | -O) to=$2 ;; esac; shift; done; exec cat /dev/zero >"$to"'
    directory = f"{host.directory}/programs"
    host.pretend(**{program: endless})
    if program == "wget":
        for name in os.listdir("/usr/bin"):
            if name not in ("curl", "wget"):
                os.symlink(f"/usr/bin/{name}", f"{directory}/{name}")
        host.path = directory
    refused = host.run("dash", releases[1].script, "--base-url", URL, check=False)
    assert f"cannot download {URL}/latest" in refused.err
    assert os.listdir(host.tmp) == []
