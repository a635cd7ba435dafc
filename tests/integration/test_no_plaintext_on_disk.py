"""Nothing DSO does puts plaintext on a disk: searched raw, with what was deleted, also after kill -9.

HOME, TMPDIR, the project and the Engine's whole state are on a disk of their own.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.canary import Canary, processes_with
from tests.support.home import DsoHome
from tests.support.process import started
from tests.support.project import Project
from tests.support.rawdisk import Disk
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images

COMPOSE = """
services:
  web:
    image: {image}
    command: sleep infinity
    init: true
    environment: {{PASSWORD_FILE: "dsofile://shop/password"}}
    secrets:
      - {{source: key, target: /etc/tls/key, uid: "1000", gid: "1000", mode: 0400}}
    configs: [settings]
  job:
    image: {image}
    command: sh -c 'cat /run/secrets/dso/* >/dev/null; sleep infinity'
    init: true
    environment: {{KEY_FILE: "dsofile://shop/key"}}
secrets:
  key: {{file: "dsofile://shop/key"}}
configs:
  settings: {{content: "[db]\\npassword = {{{{dso://shop/password}}}}\\n"}}
"""


@pytest.fixture(scope="module")
def disk(images: Images) -> Iterator[Disk]:
    with Disk() as disk:
        disk.private.load(images.busybox)
        yield disk


@pytest.fixture
def project(disk: Disk, variant: str, images: Images) -> Iterator[Project]:
    name = f"dsotest{secrets.token_hex(4)}"
    home = DsoHome(os.path.join(disk.mount, f"home-{name}"), variant, {**disk.engine.env, "TMPDIR": disk.tmp})
    project = Project(os.path.join(disk.mount, name), home, disk.engine)
    project.compose_yaml(COMPOSE.format(image=images.busybox))
    project.dso("init")
    yield project
    project.remove()


def store(project: Project, name: str, canary: Canary) -> Canary:
    project.dso("secret", "set", f"shop/{name}", "--from-file", "-", input=canary.value)
    return canary


def start_and_check(project: Project, password: Canary, key: Canary) -> None:
    project.dso("up", "-d")
    assert project.exec("web", "cat", "/run/secrets/dso/shop.password").stdout == password.value
    assert project.exec("web", "cat", "/etc/tls/key", user="1000").stdout == key.value
    assert password.value in project.exec("web", "cat", "/settings").stdout
    assert project.exec("job", "cat", "/run/secrets/dso/shop.key").stdout == key.value


def test_whole_life_of_a_stack_leaves_no_plaintext_on_the_raw_disk(disk: Disk, project: Project) -> None:
    passwords = [store(project, "password", Canary.new())]
    keys = [store(project, "key", Canary.binary())]
    start_and_check(project, passwords[-1], keys[-1])
    project.compose("restart", "-t", "0")
    project.compose("kill", "job")
    keys.append(store(project, "key", Canary.binary().around(b"-----BEGIN-----\n" * 4000, b"\n-----END-----\n" * 4000)))
    start_and_check(project, passwords[-1], keys[-1])
    for service in ("web", "job"):
        container = project.container(service)
        disk.engine.docker("commit", container, f"committed-{service}")
        disk.engine.docker("export", "-o", os.path.join(disk.tmp, f"{service}.tar"), container)
    project.dso("env", "export", "shop", check=False)  # refuses the binary key: must not leave half a file
    project.dso("secret", "history", "shop/key")
    project.dso("compose", "run", "--rm", "web", "true")
    project.dso("diff")
    project.dso("inspect", project.container("web"))
    assert processes_with(*passwords, *keys) == []
    project.dso("down", "-v")
    project.assert_nothing_left()
    assert disk.find(*passwords, *keys) == []


def test_editing_a_secret_leaves_no_plaintext_on_the_raw_disk(disk: Disk, project: Project) -> None:
    old, new = store(project, "password", Canary.new()), Canary.new()
    editor = 'sh -c \'printf %s "$NEW" >"$0"\''
    project.dso("secret", "edit", "shop/password", env={"EDITOR": editor, "NEW": new.text})
    assert project.dso("secret", "get", "shop/password").stdout == new.value
    assert disk.find(old, new) == []


@pytest.mark.parametrize("whole_session", [False, True], ids=["dso", "dso-and-compose"])
def test_kill_9_at_any_moment_of_up_leaves_no_plaintext_on_the_raw_disk(
    disk: Disk, project: Project, whole_session: bool
) -> None:
    """At moments all over `up` and after it; each next `up` starts from what the killed one left."""
    canaries = []
    killed = 0
    for moment in (0.03, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5):
        canaries += [store(project, "password", Canary.new()), store(project, "key", Canary.binary())]
        killed += kill_up(project, moment, whole_session=whole_session)
    assert killed >= 4, "the moments are too late: `up` had ended by itself"
    start_and_check(project, *canaries[-2:])
    project.dso("down", "-v")
    project.assert_nothing_left()
    assert disk.find(*canaries) == []


def kill_up(project: Project, moment: float, *, whole_session: bool) -> bool:
    """Start `up` and kill it after so many seconds; whether it was still running."""
    with started(
        [project.home.plugin, "up", "-d"],
        cwd=project.directory,
        env=project.home.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as up:
        time.sleep(moment)
        (os.killpg if whole_session else os.kill)(up.pid, signal.SIGKILL)
        up.wait(60)
    wait_until(lambda: not session_runs(up.pid), "what the killed `up` had started ends")
    return up.returncode == -signal.SIGKILL


def session_runs(session: int) -> bool:
    shown = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], capture_output=True, check=False)
    return shown.stdout.strip() != b""
