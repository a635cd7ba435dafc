"""What root's environment may come from another user, and what the installer's programs take from it."""

from __future__ import annotations

import http.server
import os
import shutil
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.install import SHELLS, USER, Host
from tests.support.release import Key, Release

if TYPE_CHECKING:
    from collections.abc import Iterator

UNINSTALL = "/usr/local/lib/dso/uninstall.sh"


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
def url(release: Release) -> Iterator[str]:
    """A server of the release; it is a proxy too, before any server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with open(f"{release.directory}/{os.path.basename(self.path)}", "rb") as file:
                content = file.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def host(place: str) -> Iterator[Host]:
    path = tempfile.mkdtemp(dir=place)
    os.chmod(path, 0o755)
    yield Host(path)
    shutil.rmtree(path)


@pytest.fixture
def theirs(host: Host) -> str:
    """Another user's directory, with directories of names that root has too."""
    path = f"{host.directory}/theirs"
    for name in ("", "/usr", "/etc"):
        os.mkdir(path + name)
        os.chown(path + name, USER, USER)
    return path


def write(path: str, text: str, mode: int = 0o644) -> None:
    with open(path, "w") as file:
        file.write(text)
    os.chown(path, USER, USER)
    os.chmod(path, mode)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def without(host: Host, *missing: str) -> None:
    """Let PATH have everything but these programs."""
    directory = f"{host.directory}/programs"
    os.makedirs(directory)
    for name in os.listdir("/usr/bin"):
        if name not in missing:
            os.symlink(f"/usr/bin/{name}", f"{directory}/{name}")
    host.path = directory


def run_in(host: Host, directory: str, *words: str, env: dict[str, str], check: bool = True) -> str:
    """What the scripts say on stderr, run as root in another directory."""
    return host.run("/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", directory, *words, env=env, check=check).err


# Relative paths


@pytest.mark.parametrize("relative", ["usr", "./usr", "../theirs/usr", "usr/../usr"])
@pytest.mark.parametrize("shell", SHELLS)
def test_a_temporary_directory_below_the_present_one_is_refused(
    shell: str, relative: str, host: Host, release: Release, theirs: str
) -> None:
    words = (*shell.split(), release.script, "--offline", release.tarball)
    said = run_in(host, theirs, *words, env={"TMPDIR": relative}, check=False)
    assert f"the temporary directory is not safe: {relative} is not an absolute path" in said
    assert (host.files(), os.listdir(f"{theirs}/usr")) == ({}, [])


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("variable", ["DOCKER_CONFIG", "HOME"])
def test_root_asks_docker_without_a_configuration_below_the_present_directory(
    variable: str, shell: str, host: Host, release: Release, theirs: str
) -> None:
    log = f"{host.directory}/log"
    host.pretend(docker=f'echo "$HOME ${{DOCKER_CONFIG-unset}} $1" >>{log}')
    env = {"HOME": "/root", variable: "etc"}
    for words in ([release.script, "--offline", release.tarball], [UNINSTALL]):
        run_in(host, theirs, *f"/bin/{shell}".split(), *words, env=env)
    home = "/" if variable == "HOME" else "/root"
    assert read(log) == f"{home} unset compose\n{home} unset volume\n"


@pytest.mark.parametrize("name", ["cli-plugins", "config.json", "contexts"])
def test_root_asks_docker_without_a_file_of_another_user_in_its_own_configuration(
    name: str, host: Host, release: Release, theirs: str
) -> None:
    log = f"{host.directory}/log"
    host.pretend(docker=f'echo "$HOME ${{DOCKER_CONFIG-unset}}" >>{log}')
    for directory in ("home/.docker", "configuration"):
        os.makedirs(f"{host.directory}/own/{directory}")
        os.symlink(f"{theirs}/etc", f"{host.directory}/own/{directory}/{name}")
    own = f"{host.directory}/own"
    for env in ({"HOME": f"{own}/home"}, {"HOME": "/root", "DOCKER_CONFIG": f"{own}/configuration"}):
        host.reset()
        host.run("dash", release.script, "--offline", release.tarball, env=env)
    assert read(log) == "/ unset\n/root unset\n"


# Configuration of programs


@pytest.mark.parametrize("variables", ["XDG_CONFIG_HOME", "CURL_HOME", "HOME", "HOME DOCKER_CONFIG"])
@pytest.mark.parametrize("shell", SHELLS)
def test_curl_writes_nothing_that_another_users_curlrc_asks_for(
    shell: str, variables: str, host: Host, release: Release, url: str, theirs: str
) -> None:
    written = f"{host.directory}/written"
    write(f"{theirs}/.curlrc", f'url = "file://{release.script}"\noutput = "{written}"\nnext\n')
    env = {name: "/etc" if name == "DOCKER_CONFIG" else theirs for name in variables.split()}
    host.run(*shell.split(), release.script, "--base-url", url, env=env)
    assert not os.path.exists(written)
    assert "lib/dso/manifest" in host.files()


def test_curl_obeys_no_curlrc_of_the_user_who_installs(host: Host, release: Release, url: str) -> None:
    """Its lines are meant for other downloads: here one would have the tarball go elsewhere."""
    write(f"{host.home}/.curlrc", f'output = "{host.home}/written"\n')
    host.run("dash", release.script, "--base-url", url, user=True)
    assert not os.path.exists(f"{host.home}/written")


@pytest.mark.parametrize("variables", ["SYSTEM_WGETRC", "WGETRC", "HOME", "HOME DOCKER_CONFIG"])
@pytest.mark.parametrize("shell", SHELLS)
def test_wget_runs_nothing_that_another_users_wgetrc_asks_for(
    shell: str, variables: str, host: Host, release: Release, url: str, theirs: str
) -> None:
    without(host, "curl")
    log = f"{host.directory}/log"
    write(f"{theirs}/ask", f"#!/bin/sh\nid >>{log}\necho x\n", 0o755)
    write(f"{theirs}/.wgetrc", f"use_askpass = {theirs}/ask\n")
    files = {"HOME": theirs, "DOCKER_CONFIG": "/etc"}
    env = {name: files.get(name, f"{theirs}/.wgetrc") for name in variables.split()}
    host.run(*shell.split(), release.script, "--base-url", url, env=env)
    assert not os.path.exists(log)
    assert "lib/dso/manifest" in host.files()


@pytest.mark.parametrize("program", ["curl", "wget"])
@pytest.mark.parametrize("user", [False, True], ids=["root", "a user"])
def test_a_proxy_serves_still(user: bool, program: str, host: Host, release: Release, url: str) -> None:
    without(host, *({"curl", "wget"} - {program}))
    words = [release.script, "--base-url", "http://dso.example", "--allow-http"]
    host.run("dash", *words, env={"http_proxy": url}, user=user)
    assert host.files(host.home if user else host.local)


@pytest.mark.parametrize("shell", [*SHELLS, "bash", "bash --posix"])
def test_of_roots_environment_only_what_is_needed_is_kept(shell: str, host: Host, release: Release) -> None:
    log = f"{host.directory}/log"
    for name in ("docker", "tar", "openssl"):
        host.pretend(**{name: f'env >>{log}\n[ {name} = docker ] || exec /usr/bin/{name} "$@"'})
    kept = {"http_proxy", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "DOCKER_HOST", "DSO_BASE_URL"}
    files = (
        "GCONV_PATH",
        "BASH_ENV",
        "ENV",
        "OPENSSL_CONF",
        "SSLKEYLOGFILE",
        "LD_LIBRARY_PATH",
        "WGET2_PLUGINS",
        "IFS",
    )
    options = (
        "TAR_OPTIONS",
        "GZIP",
        "GREP_OPTIONS",
        "POSIXLY_CORRECT",
        "PYTHONPATH",
        "DBUS_SYSTEM_BUS_ADDRESS",
        "PAGER",
    )
    env = dict.fromkeys((*kept, *files, *options, "UID", "PPID", "judged", "agent"), f"{host.home}/some")
    env |= {"LINES_OF": "x\nuid=7\njudged=x", "SHELLOPTS": "pipefail"}
    for words in ([release.script, "--offline", release.tarball], [UNINSTALL]):
        host.run(*shell.split(), *words, env=env)
        found = {line.partition("=")[0] for line in read(log).splitlines()}
        # what a shell has of its own
        assert found - {"_", "OLDPWD", "SHLVL", "SHELLOPTS", "OPTIND"} == kept | {
            "PATH",
            "HOME",
            "TMPDIR",
            "PWD",
            "LC_ALL",
        }
        os.unlink(log)
    assert host.files() == {}
