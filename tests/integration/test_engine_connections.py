"""The same delivery through every way Docker has of reaching an Engine."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from dso.delivery.engine import Engine as Client
from dso.errors import EngineUnreachableError
from tests.support.certificates import Certificates
from tests.support.delivery import Stack, files
from tests.support.engine_proxy import ENGINE_SOCKET, EngineProxy
from tests.support.process import ROOT, environment, run, started
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Engine, Images
    from tests.support.process import Result

    Check = Callable[[list[str], EngineProxy], None]


PLAIN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any Docker configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def proxy() -> Iterator[EngineProxy]:
    with EngineProxy() as found:
        yield found


@pytest.fixture
def certificates(home: Path) -> Certificates:
    return Certificates(str(home / "certificates"))


@pytest.fixture
def tls_proxy(certificates: Certificates) -> Iterator[EngineProxy]:
    with EngineProxy(tls=certificates.server_context()) as found:
        yield found


class Directly:
    """The Engine without a detour, whatever the test sets for DSO."""

    def docker(self, *args: str, check: bool = True, input: bytes | None = None) -> Result:  # noqa: A002
        return run(["docker", "-H", f"unix://{ENGINE_SOCKET}", *args], env=PLAIN, check=check, input=input)


@pytest.fixture
def check(engine: Engine, images: Images) -> Iterator[Check]:
    """Deliver through `docker_args`; the proxy sees all requests, on one connection."""
    stacks: list[Stack] = []

    def deliver(docker_args: list[str], proxy: EngineProxy) -> None:
        stack = Stack(Directly(), "", images.busybox)
        stacks.append(stack)
        stack.client = Client.from_docker_args(docker_args)
        large = os.urandom(1 << 20)
        stack.deliver(files("api", large=large))
        assert stack.read("api", "large") == [large]
        proxy.clear()
        connections = proxy.connections
        stack.deliver(files("api", large=large))
        assert [line.split("/")[1] for line in proxy.requests] == ["containers", "containers"]
        stack.deliver(files("api", key=b"new", large=large))
        assert stack.read("api", "key") == [b"new"]
        assert proxy.connections == connections
        stack.client.execute(stack.keepers()[0], ["/pause", "/run/dso/api/key"])
        assert stack.release(remove_volumes=True)
        stack.sweep()
        stack.client.close()

    yield deliver
    for stack in stacks:
        stack.remove()


def test_host_flag_with_a_socket(check: Check, proxy: EngineProxy) -> None:
    check(["-H", proxy.host], proxy)


def test_host_variable_with_a_socket(check: Check, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", proxy.host)
    check([], proxy)


def test_context_by_flag(check: Check, proxy: EngineProxy) -> None:
    run(["docker", "context", "create", "prod", "--docker", f"host={proxy.host}"], env=environment())
    check(["--context", "prod"], proxy)


def test_context_by_variable_and_by_configuration(
    check: Check, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["docker", "context", "create", "prod", "--docker", f"host={proxy.host}"], env=environment())
    run(["docker", "context", "use", "prod"], env=environment())
    check([], proxy)
    run(["docker", "context", "use", "default"], env=environment())
    monkeypatch.setenv("DOCKER_CONTEXT", "prod")
    with Client.from_docker_args([]) as client:
        proxy.clear()
        client.version()
        assert proxy.requests[-1] == "GET /version"


def test_tcp_with_tls_by_variables(
    check: Check, tls_proxy: EngineProxy, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", tls_proxy.host)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", certificates.directory)
    check([], tls_proxy)


def test_tcp_with_tls_by_flags(check: Check, tls_proxy: EngineProxy, certificates: Certificates) -> None:
    flags = ["--tlsverify"]
    for flag, name in (("--tlscacert", "ca.pem"), ("--tlscert", "cert.pem"), ("--tlskey", "key.pem")):
        flags += [f"{flag}={certificates.path(name)}"]
    check([*flags, "-H", tls_proxy.host], tls_proxy)


def test_tcp_with_tls_by_context(check: Check, tls_proxy: EngineProxy, certificates: Certificates) -> None:
    endpoint = f"host={tls_proxy.host}"
    for key, name in (("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")):
        endpoint += f",{key}={certificates.path(name)}"
    run(["docker", "context", "create", "prod", "--docker", endpoint], env=environment())
    check(["-c", "prod"], tls_proxy)


def test_tls_of_an_unknown_authority_is_refused(
    tls_proxy: EngineProxy, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Certificates(str(home / "other"))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", other.directory)
    with Client.from_docker_args(["-H", tls_proxy.host]) as client:
        with pytest.raises(EngineUnreachableError, match="certificate signed by unknown authority") as caught:
            client.version()
        assert f"docker -H {tls_proxy.host} version" in caught.value.hint
    assert tls_proxy.requests == []


# ssh: what docker does is `ssh ... docker system dial-stdio` on the other machine.


def put_program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def put_ssh(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(directory / "ssh", script)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_ssh_with_a_stand_in_that_runs_the_command_here(
    check: Check, proxy: EngineProxy, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'while [ "$1" != docker ]; do shift; done; shift\nexec {shutil.which("docker")} -H {proxy.host} "$@"'
    put_ssh(home / "bin", script, monkeypatch)
    check(["-H", "ssh://someone@host.example"], proxy)


@pytest.fixture
def ssh_host(proxy: EngineProxy, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An sshd on the loopback interface; the Engine of the "other machine" is the proxy."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
    if sshd is None or os.getuid() != 0:
        pytest.skip("needs root and openssh-server")
    for name in ("host_key", "user_key"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)])
    shutil.copy(home / "user_key.pub", home / "authorized_keys")
    put_program(home / "remote" / "docker", f'exec {shutil.which("docker")} -H {proxy.host} "$@"')
    config = {
        "ListenAddress": "127.0.0.1", "HostKey": str(home / "host_key"), "PidFile": "none",
        "AuthorizedKeysFile": str(home / "authorized_keys"), "StrictModes": "no", "UsePAM": "no",
        "PermitRootLogin": "prohibit-password", "SetEnv": f"PATH={home}/remote:/usr/bin:/bin",
    }  # fmt: skip
    (home / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    options = f"-i {home}/user_key -o IdentitiesOnly=yes -o UserKnownHostsFile={home}/known -o LogLevel=ERROR"
    put_ssh(home / "bin", f'exec /usr/bin/ssh -F none {options} -o StrictHostKeyChecking=no "$@"', monkeypatch)
    os.makedirs("/run/sshd", exist_ok=True)
    log = home / "sshd.log"
    while True:  # until the port is not somebody else's by the time that sshd takes it
        port = free_port()
        command = [sshd, "-D", "-e", "-f", str(home / "sshd_config"), "-p", str(port)]
        with open(log, "wb") as file, started(command, stderr=file):
            wait_until(log.read_bytes, "sshd says that it listens, or why not")
            if b"Server listening" in log.read_bytes():
                yield f"ssh://root@127.0.0.1:{port}"
                return
        assert b"Address already in use" in log.read_bytes(), log.read_text()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_ssh_by_host(check: Check, proxy: EngineProxy, ssh_host: str) -> None:
    check(["-H", ssh_host], proxy)


def test_ssh_by_context(check: Check, proxy: EngineProxy, ssh_host: str) -> None:
    run(["docker", "context", "create", "prod", "--docker", f"host={ssh_host}"], env=environment())
    check(["-c", "prod"], proxy)


# What goes wrong


def test_unknown_context_repeats_dockers_reason() -> None:
    with Client.from_docker_args(["-c", "nowhere"]) as client, pytest.raises(EngineUnreachableError) as caught:
        client.version()
    assert 'context "nowhere"' in caught.value.message


def test_nobody_listening_repeats_dockers_reason() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # it listens to nothing, and keeps others from the port
        client = Client.from_docker_args(["-H", "tcp://127.0.0.1:{1}".format(*silent.getsockname())])
        with pytest.raises(EngineUnreachableError, match="connection refused"):
            client.version()


def test_user_outside_the_docker_group_is_told_about_it(engine: Engine, images: Images) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    program = (
        "import _socket, os\n"  # all imports first: the interpreter may lie where only root may look
        "from dso.delivery.engine import Engine\nfrom dso.errors import EngineUnreachableError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: Engine.from_docker_args([]).version()\n"
        "except EngineUnreachableError as error: print(error.message, '|', error.hint)\n"
    )
    said = run([sys.executable, "-c", program], cwd=ROOT, env=environment()).out
    assert "may not speak to the Docker Engine at /var/run/docker.sock" in said
    assert "docker group" in said or "usermod -aG docker" in said


@pytest.mark.parametrize("through_docker", [False, True])
def test_connection_that_broke_meanwhile_is_opened_again(through_docker: bool, proxy: EngineProxy) -> None:
    flags = ["--tls=false"] if through_docker else []
    with Client.from_docker_args([*flags, "-H", proxy.host]) as client:
        client.version()
        assert (client._child is not None) is through_docker
        proxy.drop_connections()
        wait_until(client._is_stale, "the end of the connection")
        assert client.version()["Os"] == "linux"
        assert proxy.connections == (4 if through_docker else 2)  # docker pings before it connects


def test_closing_leaves_no_child_behind(proxy: EngineProxy) -> None:
    client = Client.from_docker_args(["--tls=false", "-H", proxy.host])
    client.version()
    assert client._child is not None
    pid = client._child.pid
    client.close()
    assert not os.path.exists(f"/proc/{pid}")
