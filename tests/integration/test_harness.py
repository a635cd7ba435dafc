"""The tests' own tools: a check that cannot fail would prove nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from tests.support.canary import COMMON_PLACES, Canary, assert_absent, processes_with, sweep_files
from tests.support.process import ChildFailedError, run, started
from tests.support.rawdisk import Disk
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Engine, Images
    from tests.support.home import DsoHome
    from tests.support.project import Project

SERVICE = """
services:
  web:
    image: {image}
    command: sleep infinity
    init: true
    environment: {environment}
    volumes: ["data:/data"]
    tmpfs: /ram
volumes: {{data: }}
"""


def start(project: Project, image: str, environment: str = "{}") -> None:
    project.compose_yaml(SERVICE.format(image=image, environment=environment))
    project.compose("up", "-d")


@pytest.fixture
def planted() -> Iterator[Callable[[str, bytes], str]]:
    """Write a file in a directory of the machine; it is removed after the test."""
    paths = []

    def plant(directory: str, content: bytes) -> str:
        path = os.path.join(directory, f"dso-planted-{secrets.token_hex(4)}")
        with open(path, "xb") as file:
            file.write(content)
        paths.append(path)
        return path

    yield plant
    for path in paths:
        os.unlink(path)


# The canary sweep.


def test_sweep_is_silent_when_the_canary_is_nowhere(engine: Engine, images: Images, project: Project) -> None:
    start(project, images.busybox)
    swept = assert_absent(Canary.new(), Canary.binary(), engine=engine, project=project)
    assert swept.files > swept.read > 0


@pytest.mark.parametrize("make", [Canary.new, Canary.binary])
def test_sweep_finds_every_spelling_of_a_value(make: Callable[[], Canary], tmp_path: Path) -> None:
    canary = make()
    value = canary.value
    spellings = {
        "raw": value,
        "hex": value.hex().encode(),
        "HEX": value.hex().upper().encode(),
        "percent": urllib.parse.quote(value, safe="").encode(),
        "json": json.dumps({"key": value.decode("utf-8", "replace")}).encode(),
        "urlsafe": base64.urlsafe_b64encode(b"user:" + value),
        **{f"base64 {n}": base64.b64encode(b"x" * n + value + b"tail") for n in range(6)},
    }
    for name, text in spellings.items():
        (tmp_path / "file").write_bytes(b"before" * 1000 + text + b"after" * 1000)
        assert sweep_files([canary], [str(tmp_path)]).hits, name


@pytest.mark.parametrize("place", [place for place in COMMON_PLACES if os.path.isdir(place)])
def test_sweep_finds_a_file_in_each_common_place(
    place: str, engine: Engine, planted: Callable[[str, bytes], str]
) -> None:
    canary = Canary.new()
    path = planted(place, b"password=" + canary.value)
    in_ram = not sweep_files([canary], [path]).files
    if in_ram:  # /tmp and /run are tmpfs on many machines: then the rule leaves them out, and nothing else does
        assert run(["findmnt", "-n", "-o", "FSTYPE", "--target", place]).out.strip() == "tmpfs"
        return
    with pytest.raises(AssertionError, match=path):
        assert_absent(canary, engine=engine)


def test_sweep_finds_a_file_in_home_and_in_the_project(engine: Engine, project: Project, home: DsoHome) -> None:
    canary = Canary.binary()
    for path in (os.path.join(home.path, ".cache"), project.path("left-over.env")):
        with open(path, "wb") as file:
            file.write(canary.value)
        with pytest.raises(AssertionError, match=os.path.basename(path)):
            assert_absent(canary, engine=engine, project=project)
        os.unlink(path)
    assert_absent(canary, engine=engine, project=project)


def test_sweep_finds_an_environment_variable_in_inspect_and_in_the_data_root(
    engine: Engine, images: Images, project: Project
) -> None:
    canary = Canary.new()
    start(project, images.busybox, f"{{PASSWORD: {canary.text}}}")
    os.unlink(project.path("compose.yaml"))
    with pytest.raises(AssertionError, match=r"config\.v2\.json") as caught:
        assert_absent(canary, engine=engine, project=project)
    assert "docker inspect" in str(caught.value)


def test_sweep_finds_a_file_in_a_layer_and_in_a_volume(engine: Engine, images: Images, project: Project) -> None:
    canary = Canary.new()
    start(project, images.busybox)
    for path in ("/root/file", "/data/file"):
        engine.docker("exec", "-i", project.container("web"), "sh", "-c", f"cat >{path}", input=canary.value)
        with pytest.raises(AssertionError, match=engine.root):
            assert_absent(canary, engine=engine, project=project)
        project.exec("web", "rm", path)
    assert_absent(canary, engine=engine, project=project)


def test_sweep_finds_what_a_container_prints(engine: Engine, images: Images, project: Project) -> None:
    canary = Canary.new()
    start(project, images.busybox)
    engine.docker("exec", "-i", project.container("web"), "sh", "-c", "cat >/proc/1/fd/1", input=canary.value + b"\n")
    wait_until(lambda: canary.find(engine.logs(project.name)), "the line in the logs")
    with pytest.raises(AssertionError, match="docker logs"):
        assert_absent(canary, engine=engine, project=project)


def test_sweep_finds_canaries_in_outputs_file_names_and_process_tables(engine: Engine, tmp_path: Path) -> None:
    canary = Canary.new()
    with pytest.raises(AssertionError, match="what up printed"):
        assert_absent(canary, engine=engine, outputs={"what up printed": b"..." + canary.value})
    (tmp_path / canary.text).touch()
    with pytest.raises(AssertionError, match="the name of"):
        assert_absent(canary, engine=engine, places=[str(tmp_path)])
    (tmp_path / canary.text).unlink()
    for argv, env in ((["sleep", "60"], {"X": canary.text}), ([sys.executable, "-c", "input()", canary.text], {})):
        with started(argv, env={**os.environ, **env}, stdin=subprocess.PIPE):
            assert processes_with(canary)
    assert_absent(canary, engine=engine, places=[str(tmp_path)])


def test_sweep_finds_a_canary_across_block_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.canary.BLOCK", 100)
    canary = Canary.new()
    for before in range(201):
        (tmp_path / "file").write_bytes(b"-" * before + canary.value)
        assert sweep_files([canary], [str(tmp_path)]).hits


def test_sweep_finds_a_canary_behind_a_hole(tmp_path: Path) -> None:
    """It passes over the hole: reading tens of gigabytes of it would take minutes."""
    canary = Canary.new()
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(40 << 30)
        file.seek(39 << 30)
        file.write(canary.value)
    assert sweep_files([canary], [str(tmp_path)]).hits


def test_sweep_leaves_out_what_is_only_in_ram(engine: Engine, images: Images, project: Project) -> None:
    canary = Canary.new()
    start(project, images.busybox)
    engine.docker("exec", "-i", project.container("web"), "sh", "-c", "cat >/ram/file", input=canary.value)
    assert project.exec("web", "cat", "/ram/file").stdout == canary.value
    assert_absent(canary, engine=engine, project=project)


def test_sweep_leaves_out_only_the_allowed_path(engine: Engine, project: Project) -> None:
    canary = Canary.new()
    allowed = project.write("plain.env", canary.value)
    project.write("other/plain.env", canary.value)
    with pytest.raises(AssertionError, match="other") as caught:
        assert_absent(canary, engine=engine, project=project, allow=[allowed])
    assert allowed not in str(caught.value)


# Projects.


def test_project_reports_what_is_left_and_removes_it(engine: Engine, images: Images, project: Project) -> None:
    start(project, images.busybox)
    keeper = f"{project.name}_keeper"
    labels = ["--label", f"io.dso.project={project.name}", "--label", "io.dso.role=keeper"]
    engine.docker("volume", "create", f"{project.name}_dso_web")
    mount = f"{project.name}_dso_web:/s"
    engine.docker("run", "-d", "--restart", "always", "-v", mount, "--name", keeper, *labels, images.scratch)
    assert len(project.keepers()) == 1
    assert project.container("web") not in project.keepers()
    kinds = [line.split()[0] for line in project.leftovers()]
    assert kinds == ["container", "container", "volume", "network", "volume"]
    with pytest.raises(AssertionError):
        project.assert_nothing_left()
    project.remove()
    project.assert_nothing_left()


# Images.


def test_scratch_image_shows_files_and_variables_without_their_values(
    engine: Engine, images: Images, tmp_path: Path
) -> None:
    content = secrets.token_bytes(100_000)
    (tmp_path / "file").write_bytes(content)
    os.chmod(tmp_path / "file", 0o440)
    mount = f"{tmp_path}/file:/f:ro"
    shown = engine.docker("run", "--rm", "-v", mount, images.scratch, "/f").out
    assert shown.split() == [hashlib.sha256(content).hexdigest(), "100000", "0:0", "0440", "/f"]
    shown = engine.docker("run", "--rm", "-e", "X=a$$ b", images.scratch, "env", "X").out
    assert shown.split() == [hashlib.sha256(b"a$$ b").hexdigest(), "5", "X"]
    with pytest.raises(ChildFailedError, match="/absent"):
        engine.docker("run", "--rm", images.scratch, "/absent")


def test_scratch_image_has_no_shell(engine: Engine, images: Images) -> None:
    assert engine.docker("run", "--rm", "--entrypoint", "sh", images.scratch, check=False).returncode == 127


@pytest.mark.parametrize(("mode", "works"), [(0o400, True), (0o444, True), (0o000, False)])
def test_postgres_image_reads_its_password_file_as_postgres(
    mode: int, works: bool, images: Images, project: Project
) -> None:
    secret = project.write("password", "pa$$'\" \\word\n", mode=0o444)
    if mode == 0o400:
        os.chown(secret, 999, 999)  # otherwise it belongs to root, who does not read it
    os.chmod(secret, mode)
    project.compose_yaml(f"""
services:
  db:
    image: {images.postgres}
    environment: {{POSTGRES_USER: app, POSTGRES_PASSWORD_FILE: /password}}
    volumes: ["./password:/password:ro"]
    healthcheck: {{test: pg_isready -U app, interval: 200ms, retries: 100}}
""")
    up = project.compose("up", "-d", "--wait", check=False)
    if not works:
        assert up.returncode == 1
        assert "Permission denied" in project.logs("db").err
        return
    login = ["psql", "-h", "127.0.0.1", "-U", "app", "-Atc", "select 42"]
    assert project.exec("db", "env", "PGPASSWORD=pa$$'\" \\word", *login).out == "42\n"
    assert project.exec("db", "env", "PGPASSWORD=wrong", *login, check=False).returncode == 2


# Terminals.


def test_terminal_types_lines_and_presses_control_c(home: DsoHome) -> None:
    with home.terminal(
        "sh", "-c", 'printf "name? "; read x; echo "[$x]"; trap "exit 42" INT; echo set; while :; do sleep 0.1; done'
    ) as terminal:
        terminal.expect("name? ")
        terminal.line("Anna")
        terminal.expect("[Anna]")
        terminal.expect("set")
        terminal.control_c()
        assert terminal.wait() == 42


# A disk to search raw.


def test_raw_disk_shows_what_was_deleted_from_it(images: Images) -> None:
    removed, variable, in_ram, absent = (Canary.new() for _ in range(4))
    with Disk() as disk:
        disk.private.load(images.busybox)
        flags = ["--name", "box", "-e", f"X={variable.text}", "--tmpfs", "/ram", "--network", "none"]
        disk.engine.docker("run", "-d", *flags, images.busybox, "sleep", "infinity")
        disk.engine.docker("exec", "-i", "box", "sh", "-c", "cat >/ram/file", input=in_ram.value)
        disk.engine.docker("rm", "-f", "box")
        with open(os.path.join(disk.tmp, "file"), "wb", buffering=0) as file:
            file.write(removed.value)
            os.fsync(file.fileno())
        os.unlink(file.name)
        assert sweep_files([removed], [disk.mount]).hits == ()
        assert disk.find(removed)
        assert disk.find(variable)
        assert disk.find(in_ram, absent) == []


def test_second_engine_leaves_the_network_of_the_first_alone(engine: Engine, images: Images) -> None:
    with Disk() as disk:
        disk.private.load(images.busybox)
        assert disk.engine.docker("run", "--rm", images.busybox, "hostname").out
    assert engine.docker("run", "--rm", images.busybox, "hostname").out
