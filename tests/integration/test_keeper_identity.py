"""Secrets go into DSO's own keeper and volumes only, whatever else has their tag, names and labels.

On an Engine of our own whose disk is searched raw: what poisons an image or a volume must not meet other tests.
"""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from dso.delivery import image
from tests.support.canary import Canary
from tests.support.engine import Engine
from tests.support.engine_proxy import EngineProxy
from tests.support.home import DsoHome
from tests.support.private_engine import PrivateEngine
from tests.support.project import Project
from tests.support.rawdisk import Disk
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Images

VOLUME_CONFLICT, KEEPER = 37, 38  # docs/exit-codes.md
IDS = image.IDS["amd64"] + image.IDS["arm64"]
COMPOSE = """
services:
  web:
    image: {image}
    command: sleep infinity
    init: true
    environment: {{A: "dsofile://shop/a", B: "dsofile://shop/b"}}
"""
TMPFS = "size=64m,mode=0755,nodev,nosuid,noexec,noswap"

# What stands in for the keeper's image: it copies what it holds to a disk, and shows it to the Engine.
EVIL_IMAGES = {
    "its own program": """
FROM {image}
RUN printf '#!/bin/sh\\nwhile :; do cp -r /run/dso /copy/; sleep 0.1; done\\n' >/pause && chmod 755 /pause
LABEL io.dso.role=keeper io.dso.keeper=1
VOLUME /copy
HEALTHCHECK --interval=1s CMD cat /run/dso/*/*
ENTRYPOINT ["/pause"]
""",
    "our program and more": """
FROM dso/keeper:1
COPY sh /bin/sh
ENV LD_PRELOAD=/evil.so
VOLUME /copy
HEALTHCHECK --interval=1s CMD ["/bin/sh", "cat", "/run/dso/*/*"]
ENTRYPOINT ["/pause"]
""",
}


@pytest.fixture(scope="module")
def disk(images: Images) -> Iterator[Disk]:
    with Disk() as disk:
        disk.private.load(images.busybox)
        yield disk


@pytest.fixture
def make_project(disk: Disk, variant: str, images: Images) -> Iterator[Callable[[], Project]]:
    """Make projects with a home of their own, and a vault with shop/a and shop/b in it."""
    made: list[Project] = []

    def make() -> Project:
        name = f"dsotest{secrets.token_hex(4)}"
        home = DsoHome(os.path.join(disk.mount, f"home-{name}"), variant, {**disk.engine.env, "TMPDIR": disk.tmp})
        project = Project(os.path.join(disk.mount, name), home, disk.engine)
        project.compose_yaml(COMPOSE.format(image=images.busybox))
        project.dso("init")
        made.append(project)
        return project

    yield make
    for project in made:
        project.remove()


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    return make_project()


def store(project: Project, name: str) -> Canary:
    canary = Canary.new()
    project.dso("secret", "set", f"shop/{name}", "--from-file", "-", input=canary.value)
    return canary


def delivered(project: Project, name: str) -> bytes:
    return project.exec("web", "cat", f"/run/secrets/dso/shop.{name}").stdout


def keeper_of(project: Project) -> dict[str, Any]:
    (keeper,) = project.keepers()
    (found,) = json.loads(project.engine.docker("inspect", keeper).stdout)
    return dict(found)


def refused(project: Project, code: int, *, env: dict[str, str] | None = None) -> str:
    """What `up` says that is refused, before Compose has started anything."""
    result = project.dso("up", "-d", check=False, env=env)
    assert (result.returncode, project.containers()) == (code, []), result.err
    return result.err


# The image


@pytest.fixture
def evil_image(disk: Disk, project: Project, images: Images) -> Iterator[Callable[[str, bool], None]]:
    """Make an image `dso/keeper:1` with a Compose project that is built and never run, or with `docker load`."""
    for name in ("dso/keeper:1", *IDS):  # DSO's own comes back with its tag
        disk.engine.docker("rmi", "-f", name, check=False)
    evil = Project(os.path.join(disk.mount, f"dsotest{secrets.token_hex(4)}"), project.home, disk.engine)

    def make(kind: str, loaded: bool) -> None:
        evil.write("Dockerfile", EVIL_IMAGES[kind].format(image=images.busybox))
        evil.write("sh", b"#!/bin/true\n", 0o755)
        evil.compose_yaml("services: {x: {build: ., image: 'dso/keeper:1'}}\n")
        evil.compose("build", env={"DOCKER_BUILDKIT": "0"})
        if loaded:
            saved = disk.engine.docker("save", "dso/keeper:1").stdout
            disk.engine.docker("rmi", "dso/keeper:1")
            disk.engine.docker("load", input=saved)

    yield make
    disk.engine.docker("rmi", "-f", "dso/keeper:1", check=False)


@pytest.mark.parametrize("loaded", [False, True], ids=["built", "loaded"])
@pytest.mark.parametrize("kind", EVIL_IMAGES)
def test_an_image_with_the_keepers_tag_gets_no_secret(
    kind: str, loaded: bool, evil_image: Callable[[str, bool], None], project: Project, disk: Disk
) -> None:
    canaries = [store(project, "a"), store(project, "b")]
    project.dso("up", "-d")  # the image `our program and more` is derived from
    project.dso("down")
    evil_image(kind, loaded)
    project.dso("up", "-d")
    assert [delivered(project, name) for name in "ab"] == [canary.value for canary in canaries]
    keeper = keeper_of(project)
    assert keeper["Image"] in IDS
    assert keeper["Config"]["Image"] == keeper["Image"]  # created by the id, which no tag can move
    assert keeper["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert "Health" not in keeper["State"]
    assert {mount["Name"] for mount in keeper["Mounts"]} == {f"{project.name}_dso", f"{project.name}_dso_web"}
    volumes = disk.engine.docker("volume", "ls", "-q").out.split()
    assert sorted(volumes) == [f"{project.name}_dso", f"{project.name}_dso_web"]  # no anonymous one
    project.dso("down")
    project.assert_nothing_left()
    assert disk.find(*canaries) == []


def test_an_image_that_was_never_there_is_made_though_the_tag_is_taken(
    evil_image: Callable[[str, bool], None], project: Project, disk: Disk
) -> None:
    canaries = [store(project, "a"), store(project, "b")]
    evil_image("its own program", False)
    project.dso("up", "-d")
    assert keeper_of(project)["Image"] in IDS
    project.dso("down")
    assert disk.find(*canaries) == []


def test_the_keeper_is_known_where_containerd_stores_images(
    images: Images, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "daemon.json"
    config.write_text('{"features": {"containerd-snapshotter": true}}')
    with PrivateEngine(["--config-file", str(config)]) as private:
        private.load(images.busybox)
        # There an image's directory is no sign of where the data root is, so the tests' Engine cannot be used.
        home = DsoHome(str(tmp_path / "home"), variant, {"DOCKER_HOST": private.host})
        directory = tmp_path / f"dsotest{secrets.token_hex(4)}"
        directory.mkdir()
        (directory / "compose.yaml").write_text(COMPOSE.format(image=images.busybox))
        home.run("init")
        for name in ("a", "b"):
            home.run("secret", "set", f"shop/{name}", input=name)
        for _ in range(2):
            home.run("up", "-d", cwd=str(directory))
            shown = home.command(
                "docker", "compose", "exec", "web", "cat", "/run/secrets/dso/shop.a", cwd=str(directory)
            )
            assert shown.out == "a"
        (keeper,) = private.docker("ps", "-q", "--no-trunc", "--filter", "label=io.dso.role=keeper").out.split()
        assert private.docker("inspect", "--format", "{{.Image}}", keeper).out.strip() in IDS
        home.run("down", cwd=str(directory))
        assert private.docker("ps", "-aq").out == private.docker("volume", "ls", "-q").out == ""


# Volumes


@pytest.fixture
def directory(disk: Disk) -> str:
    """A directory on the disk, which must stay empty."""
    path = os.path.join(disk.mount, f"evil-{secrets.token_hex(4)}")
    os.makedirs(os.path.join(path, "web"))
    return path


def contents(directory: str) -> list[str]:
    return [name for _, _, names in os.walk(directory) for name in names]


def make_volume(project: Project, service: str | None, **options: str) -> str:
    """A volume with DSO's name and labels, and these options."""
    name = f"{project.name}_dso" + (f"_{service}" if service else "")
    labels = ["io.dso.role=volume", f"io.dso.project={project.name}"]
    labels += [f"io.dso.service={service}"] if service else []
    words = [word for label in labels for word in ("--label", label)]
    words += [word for key, value in options.items() for word in ("--opt", f"{key}={value}")]
    project.engine.docker("volume", "create", *words, name)
    return name


def keeper_flags(project: Project) -> list[str]:
    """The four labels of a keeper."""
    labels = {"role": "keeper", "project": project.name, "vault": vault_id(project), "keeper": "1"}
    return [word for key, value in labels.items() for word in ("--label", f"io.dso.{key}={value}")]


def vault_id(project: Project) -> str:
    return str(json.loads(project.dso("status", "--format", "json").out)["vault"]["id"])


@pytest.mark.parametrize("service", [None, "web"], ids=["parent", "service"])
@pytest.mark.parametrize("with_keeper", [False, True], ids=["beforehand", "held by a keeper that runs"])
def test_a_volume_that_is_bound_to_a_directory_gets_no_secret(
    service: str | None, with_keeper: bool, project: Project, disk: Disk, directory: str
) -> None:
    canaries = [store(project, "a"), store(project, "b")]
    bound = make_volume(project, service, type="tmpfs", device=directory, o="bind")
    if with_keeper:  # in everything one of ours, but for the volume: even its image
        project.dso("up", "-d", check=False)
        flags = keeper_flags(project)
        make_volume(project, "web" if service is None else None, type="tmpfs", device="tmpfs", o=TMPFS)
        for name, place in ((f"{project.name}_dso", "/run/dso"), (f"{project.name}_dso_web", "/run/dso/web")):
            flags += ["--mount", f"type=volume,source={name},target={place}"]
        image_id = next(one for one in IDS if disk.engine.docker("image", "inspect", one, check=False).returncode == 0)
        disk.engine.docker("run", "-d", "--network", "none", *flags, image_id)
    assert bound in refused(project, VOLUME_CONFLICT)
    assert contents(directory) == []
    assert bound in disk.engine.docker("volume", "ls", "-q").out.split()
    assert disk.find(*canaries) == []


def test_a_volume_that_another_project_mounts_gets_no_secret(
    make_project: Callable[[], Project], images: Images, disk: Disk
) -> None:
    """Made as DSO makes it, before DSO does, and with DSO's labels: by Compose alone, of a file of a stranger."""
    project, evil = make_project(), make_project()
    canary = store(project, "a")
    store(project, "b")
    evil.compose_yaml(f"""
services: {{spy: {{image: {images.busybox}, command: sleep infinity, init: true, volumes: ["data:/s"]}}}}
volumes:
  data:
    name: {project.name}_dso_web
    driver_opts: {{type: tmpfs, device: tmpfs, o: "{TMPFS}"}}
    labels: {{io.dso.role: volume, io.dso.project: {project.name}, io.dso.service: web}}
""")
    evil.compose("up", "-d")
    (spy,) = disk.engine.docker("inspect", "--format", "{{.Name}}", evil.container("spy")).out.split()
    said = refused(project, VOLUME_CONFLICT)
    assert f"the container {spy.lstrip('/')} mounts the volume {project.name}_dso_web" in said
    assert evil.exec("spy", "ls", "-A", "/s").out == ""
    evil.compose("down")
    project.dso("up", "-d")
    assert delivered(project, "a") == canary.value


def test_a_compose_file_cannot_mount_what_dso_made_for_another_project(
    make_project: Callable[[], Project], images: Images
) -> None:
    project, evil = make_project(), make_project()
    store(project, "a")
    store(project, "b")
    project.dso("up", "-d")
    service = f"services: {{spy: {{image: {images.busybox}, command: sleep infinity, "
    for name in (f"{project.name}_dso_web", f"{project.name}_dso"):
        evil.compose_yaml(service + f"volumes: ['data:/s']}}}}\nvolumes: {{data: {{name: {name}, external: true}}}}\n")
        assert f"mounts the volume {name}" in refused(evil, VOLUME_CONFLICT)
    (keeper,) = project.keepers()
    for joining in ("volumes_from: ['container:{}']", "pid: 'container:{}'"):
        evil.compose_yaml(service + joining.format(keeper[:8]) + "}}\n")
        assert "keeps file secrets in memory" in refused(evil, KEEPER)


def test_what_only_has_dsos_labels_is_never_removed(
    project: Project, disk: Disk, images: Images, directory: str
) -> None:
    store(project, "a")
    store(project, "b")
    project.dso("up", "-d")
    precious = [
        make_volume(project, "data"),
        make_volume(project, "bound", type="tmpfs", device=directory, o="bind"),
    ]
    flags = keeper_flags(project)
    decoy = disk.engine.docker("run", "-d", "--init", *flags, images.busybox, "sleep", "infinity").out.strip()
    project.dso("down")
    project.dso("status")
    volumes = disk.engine.docker("volume", "ls", "-q").out.split()
    assert sorted(volumes) == sorted(precious)
    assert project.keepers() == [decoy]


# Keepers


def test_a_container_with_copied_labels_gets_no_secret_and_is_named(
    project: Project, disk: Disk, images: Images, directory: str
) -> None:
    canaries = [store(project, "a"), store(project, "b")]
    flags = [*keeper_flags(project), "--name", f"{project.name}-decoy", "-v", f"{directory}:/run/dso"]
    decoy = disk.engine.docker("run", "-d", "--init", *flags, images.busybox, "sleep", "infinity").out.strip()
    project.dso("up", "-d")
    assert delivered(project, "a") == canaries[0].value
    assert len(project.keepers()) == 2
    assert contents(directory) == []
    shown = project.dso("status").out
    assert f"NOT DSO's: the container {project.name}-decoy" in shown
    said = project.dso("down").err
    assert f"the container {project.name}-decoy has the labels of a keeper and is not one" in said
    assert project.keepers() == [decoy]
    assert disk.find(*canaries) == []


def test_a_container_with_copied_labels_and_our_volumes_stops_the_delivery(
    project: Project, disk: Disk, images: Images
) -> None:
    canaries = [store(project, "a"), store(project, "b")]
    flags = [*keeper_flags(project), "--name", f"{project.name}-decoy"]
    for service, place in ((None, "/run/dso"), ("web", "/run/dso/web")):
        flags += ["-v", make_volume(project, service, type="tmpfs", device="tmpfs", o=TMPFS) + f":{place}"]
    disk.engine.docker("run", "-d", "--init", *flags, images.busybox, "sleep", "infinity")
    assert f"{project.name}-decoy has the labels of a keeper and is not one" in refused(project, KEEPER)
    disk.engine.docker("exec", f"{project.name}-decoy", "sh", "-c", "! find /run/dso -type f | grep .")
    disk.engine.docker("rm", "-f", f"{project.name}-decoy")
    project.dso("up", "-d")
    assert delivered(project, "a") == canaries[0].value


def kill_process_of(engine: Engine, keeper: str) -> None:
    """End a keeper's program; when this returns the Engine has started it again, empty."""
    (before,) = engine.docker("inspect", "--format", "{{.RestartCount}}", keeper).out.split()
    os.kill(int(engine.docker("inspect", "--format", "{{.State.Pid}}", keeper).out), 9)
    wanted = f"running {int(before) + 1}"
    state = "{{.State.Status}} {{.RestartCount}}"
    wait_until(
        lambda: engine.docker("inspect", "--format", state, keeper).out.strip() == wanted, "the keeper's restart"
    )


def test_a_keeper_that_ends_after_the_delivery_is_an_error_and_nothing_starts(project: Project, disk: Disk) -> None:
    canary = store(project, "a")
    store(project, "b")
    requests: list[str] = []

    def kill_after_put(request: str) -> None:
        if requests and requests[-1].startswith("PUT ") and request.startswith("GET /containers/"):
            kill_process_of(disk.engine, project.keepers()[0])
        requests.append(request)

    with EngineProxy(disk.private.path, before=kill_after_put) as proxy:
        said = refused(project, KEEPER, env={"DOCKER_HOST": proxy.host})
    assert "does not stay up" in said
    project.dso("up", "-d")
    assert delivered(project, "a") == canary.value


def test_a_keeper_that_ends_before_a_change_is_written_is_an_error_and_the_next_up_brings_everything(
    project: Project, disk: Disk
) -> None:
    """The files that did not change would be missing, for the containers that start from then on."""
    canaries = [store(project, "a"), store(project, "b")]
    project.dso("up", "-d")
    canaries[1] = store(project, "b")

    def kill_before_put(request: str) -> None:
        if request.startswith("PUT "):
            kill_process_of(disk.engine, project.keepers()[0])

    with EngineProxy(disk.private.path, before=kill_before_put) as proxy:
        result = project.dso("up", "-d", check=False, env={"DOCKER_HOST": proxy.host})
    assert (result.returncode, "does not stay up" in result.err) == (KEEPER, True), result.err
    project.dso("up", "-d")
    assert [delivered(project, name) for name in "ab"] == [canary.value for canary in canaries]


def test_a_keeper_that_dies_at_once_is_an_error_and_nothing_starts(
    images: Images, variant: str, tmp_path: Path
) -> None:
    """On an Engine whose seccomp profile kills it, again and again, at its only system call."""
    profile = tmp_path / "seccomp.json"
    rule = {"names": ["pause", "ppoll"], "action": "SCMP_ACT_KILL_PROCESS"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    with PrivateEngine(["--seccomp-profile", str(profile)]) as private:
        private.load(images.busybox)
        engine = Engine({"DOCKER_HOST": private.host})

        def wait_for_the_end(request: str) -> None:
            """It has ended before anything is written; that the Engine has noticed is what is waited for."""
            if request.startswith("PUT "):
                keeper = request.split("/")[2]
                count = "{{.RestartCount}}"
                wait_until(lambda: engine.docker("inspect", "--format", count, keeper).out.strip() != "0", "its end")

        with EngineProxy(private.path, before=wait_for_the_end) as proxy:
            home = DsoHome(str(tmp_path / "home"), variant, {"DOCKER_HOST": proxy.host})
            project = Project(str(tmp_path / f"dsotest{secrets.token_hex(4)}"), home, engine)
            project.compose_yaml(COMPOSE.format(image=images.busybox))
            project.dso("init")
            store(project, "a")
            store(project, "b")
            assert "does not stay up" in refused(project, KEEPER)
        assert project.keepers() == []
        project.remove()
