"""Nothing that others wrote steers a terminal: hostile text in everything that commands show, on a real terminal.

The frozen program, a real Engine and real Compose; of the agent a mock, since the real one passes on no such text.
"""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from typing import TYPE_CHECKING

import pytest

from dso import paths
from dso.cli.commands import COMMANDS
from dso.errors import UnsuitableValueError
from dso.protocol.agent import Fault
from dso.protocol.codes import UNAVAILABLE
from dso.protocol.state import CachedSecret, ProviderInfo, SecretInfo, VolumeDriverState
from tests.support.fake_agent import FakeAgent, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Engine, Images
    from tests.support.home import DsoHome
    from tests.support.project import Project

FORGED = ("Error: forged", "  hint: forged", "[DSO] forged")
# Colour, a window's title, C1's CSI, DEL, a return, a turn of writing, an invisible one, a byte that is no text.
STEERING = "\x1b[31m\x1b]0;pwned\x07\x9b2J\x7f\r\u202e\u200b\u2028"
LINES = "\n" + "\n".join(FORGED) + "\nforged\n"  # the last would be a hint by itself where hints have several lines
HOSTILE = f"evil{STEERING}{LINES}end"
HINT = f"evil{STEERING}"  # the agent's own words, which may be several lines: it is root's or ours
OURS = "\x1b[H\x1b[2J"  # with which `status --watch` clears the display


@pytest.fixture
def project(project: Project) -> Project:
    """A project whose vault has secrets with ordinary names."""
    project.home.dso("init")
    project.home.dso("secret", "set", "shop/key", input="v4lue")
    project.home.dso("secret", "set", "shop/evil", "--raw", input=HOSTILE)
    project.home.env[paths.ALLOW_VARIABLE] = "*"
    return project


def shown(project: Project, *words: str) -> str:
    """What `docker dso` shows on a terminal, checked."""
    with project.terminal("docker", "dso", *words) as terminal:
        terminal.wait()
    return checked(terminal.shown)


def checked(raw: bytes) -> str:
    text = raw.decode().replace("\r\n", "\n").replace(OURS, "")
    steering = {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n", "\t"}
    assert not steering, f"{steering} in {text!r}"
    assert not [line for line in text.split("\n") if line.startswith(FORGED)], text
    return text


def stack(project: Project, **api: object) -> None:
    """JSON, which is YAML too and has an escape for everything."""
    service = {"image": "dso-test/busybox", "command": ["sleep", "600"], "init": True, **api}
    project.compose_yaml(json.dumps({"services": {"api": service}}))


def hostile_stack(project: Project) -> None:
    stack(
        project,
        environment={
            "A\x1b[31mB\u202e": "dso://shop/key",
            "PLAIN": HOSTILE,
            "TEMPLATE": HOSTILE + "{{dso://shop/key}}",
            "KEY_FILE": "dsofile://shop/key",
        },
        labels={f"label{STEERING}": HOSTILE},
        tmpfs=["/mnt/\x1b[31m\u202e"],
    )


COVERED: set[str] = set()


def covers(*commands: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Note which commands a test runs."""
    COVERED.update(commands)
    return lambda test: test


@covers("up", "down", "compose", "validate", "diff", "inspect", "status")
def test_no_compose_file_or_container_steers_the_terminal(project: Project) -> None:
    hostile_stack(project)
    for words in (["validate"], ["up", "--dry-run"], ["up", "--dry-run", "--format", "json"], ["diff"]):
        shown(project, *words)
    assert "evil\\x1b[31m" in shown(project, "up", "--dry-run")
    checked(project.dso("up", "-d").stderr)  # on a terminal Compose moves the cursor itself
    container = project.inspect("api")["Name"].lstrip("/")
    table = shown(project, "inspect", container)
    assert "evil\\x1b[31m\\x1b]0;pwned\\x07\\x9b2J\\x7f\\r\\u202e\\u200b\\u2028\\nError: forged" in table
    document = json.loads(shown(project, "inspect", container, "--format", "json"))
    assert {"name": "PLAIN", "value": HOSTILE, "reference": ""} in document["environment"]
    project.home.dso("secret", "set", "shop/key", input="another")
    assert "A\\x1b[31mB\\u202e" in shown(project, "diff")
    for words in (["diff", "--format", "json"], ["status"], ["status", "-q"], ["status", "--format", "json"]):
        shown(project, *words)
    shown(project, "compose", "ps", "-q")
    checked(project.dso("down").stderr)


@covers("status")
def test_no_label_of_a_keeper_steers_the_terminal(project: Project, engine: Engine, images: Images) -> None:
    labels = {paths.LABEL_ROLE: "keeper", paths.LABEL_PROJECT: HOSTILE, "com.docker.compose.project": HOSTILE}
    flags = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    made = engine.docker("run", "-d", "--init", *flags, images.busybox, "sleep", "600").out.strip()
    try:
        for words in (["status"], ["status", "-q"], ["status", "--format", "json"], ["inspect", made]):
            shown(project, *words)
    finally:
        engine.docker("rm", "-f", made, check=False)


@covers("up", "validate")
@pytest.mark.parametrize(
    "api",
    [
        {"environment": {f"A{STEERING}": "dso://shop/missing"}},
        {"environment": {"A": f"dso://shop/{HOSTILE}"}},
        {"environment": {"A": f"dso://shop/key#{HOSTILE}"}},
        {"environment": {f"A{STEERING}": f"{HOSTILE}{{{{dso://shop/key#nofield}}}}"}},
        {"labels": {HOSTILE: "dso://shop/key"}},
        {"command": [HOSTILE, "dso://shop/key"]},
        {"image": HOSTILE},
        {HOSTILE: HOSTILE},
        {"env_file": HOSTILE},
        {"extends": {"service": HOSTILE}},
        {"depends_on": [HOSTILE]},
        {"profiles": [HOSTILE]},
    ],
    ids=range(12),
)
def test_no_error_about_a_compose_file_steers_the_terminal(project: Project, api: dict[str, object]) -> None:
    stack(project, **api)
    for words in (["validate"], ["up", "--dry-run"], ["__complete", "dso", "up", "--profile", ""]):
        shown(project, *words)


@covers("secret", "env", "vault", "compose", "inspect", "version", "init", "system", "fetch", "export", "sync")
def test_no_word_or_file_name_steers_the_terminal(project: Project) -> None:
    project.write(".env", "A=1\n")
    lines = [
        *(["secret", action, HOSTILE] for action in ("get", "rm", "list", "history", "rollback")),
        *(["secret", "mv", "shop/key", HOSTILE], ["secret", "set", HOSTILE, "--generate"]),
        *(["secret", "set", "shop/x", "--from-file", f"no{HOSTILE}"], ["secret", "edit", HOSTILE]),
        *(["env", "import", f"no{HOSTILE}", "shop"], ["env", "import", ".env", HOSTILE], ["env", "export", HOSTILE]),
        *(["env", "export", "shop", "-o", f"/nowhere/{HOSTILE}"], ["vault", "backup", f"/nowhere/{HOSTILE}"]),
        *(["vault", "restore", f"no{HOSTILE}"], ["vault", "remove-key", HOSTILE], ["inspect", HOSTILE]),
        *([HOSTILE], ["--mode", HOSTILE, "status"], ["-c", HOSTILE, "fetch"], ["version", HOSTILE], ["init", HOSTILE]),
        *(["compose", HOSTILE], ["compose", "-f", HOSTILE, "up"], ["validate", "-f", HOSTILE], ["up", HOSTILE]),
        *(
            ["-c", f"/nowhere/{HOSTILE}", "up"],
            ["system", "setup", "--dry-run", "--provider", HOSTILE],
            ["sync", HOSTILE],
        ),
        *(["export", HOSTILE], ["__complete", "dso", "secret", "get", HOSTILE], ["__complete", "dso", HOSTILE]),
    ]
    for words in lines:
        shown(project, *words)


@covers("allow", "deny", "up", "fetch")
def test_no_question_and_no_grant_steers_the_terminal(project: Project) -> None:
    hostile_stack(project)
    project.write("dso.yaml", f"version: 1\nagent: {{socket: /x}}\nx-a: {json.dumps(HOSTILE)}\n")
    below = project.path(f"below{STEERING}{LINES}end")
    os.makedirs(below)
    for name in ("compose.yaml", "dso.yaml"):
        shutil.copy(project.path(name), below)
    project.home.env[paths.ALLOW_VARIABLE] = ""
    for cwd in (project.directory, below):
        for words in (["allow"], ["--mode=local", "up", "--dry-run"], ["fetch"]):
            with project.home.terminal("docker", "dso", *words, cwd=cwd) as terminal:
                terminal.expect("[y/N] ")
                terminal.line("n")
                terminal.wait()
            checked(terminal.shown)
    for words in (
        *(["allow", HOSTILE], ["allow", "--directory", HOSTILE], ["deny", HOSTILE], ["allow", "-f", HOSTILE]),
        *(["allow", "--directory", below, "shop"], ["allow", "--list"], ["allow", "--list", "--format", "json"]),
        *(["deny", "--directory", below, "shop"], ["deny", "--directory", below], ["allow", "--yes"]),
        *(["__complete", "dso", "allow", ""], ["__complete", "dso", "deny", ""]),
    ):
        shown(project, *words)


@covers("env")
def test_no_env_file_steers_the_terminal(project: Project) -> None:
    for text in (
        f"A{STEERING}=1\n",
        f'A="{HOSTILE}\n',
        f"A={STEERING}${{\n",
        "\xff\x1b=1\n",
        f"A='{HOSTILE}'\nB=${{A}}\n",
    ):
        project.write(f"x{STEERING}.env", text.encode("utf-8", "surrogateescape"))
        for flags in ([], ["--dry-run"], ["--interpolate"]):
            shown(project, "env", "import", *flags, f"x{STEERING}.env", "other")


@covers("init", "vault", "secret", "status")
def test_no_directory_s_name_steers_the_terminal(make_home: Callable[[str], DsoHome], project: Project) -> None:
    home = make_home(f"home{STEERING}\nError: forged")
    for words in (["init"], ["init"], ["vault", "status"], ["vault", "check"], ["status"], ["secret", "list"]):
        with home.terminal("docker", "dso", *words, env=project.engine.env) as terminal:
            terminal.wait()
        checked(terminal.shown)


@covers("secret", "env")
def test_a_terminal_gets_a_value_as_it_is_or_not_at_all(project: Project) -> None:
    home = project.home
    for words in (["secret", "get", "shop/evil"], ["env", "export", "shop"]):
        with project.terminal("docker", "dso", *words) as terminal:
            assert terminal.wait() == UnsuitableValueError.code
        assert "that a terminal cannot show" in checked(terminal.shown)
    assert home.run("secret", "get", "shop/evil").stdout == HOSTILE.encode()
    assert json.loads(shown(project, "env", "export", "shop", "--format", "json"))["evil"] == HOSTILE
    home.dso("secret", "set", "shop/pem", input="-----BEGIN-----\r\nline\tone\r\n-----END-----\nä\n")
    with project.terminal("docker", "dso", "secret", "get", "shop/pem") as terminal:
        assert terminal.wait() == 0
    assert (
        terminal.shown.replace(b"\r\r\n", b"\r\n") == "-----BEGIN-----\r\nline\tone\r\n-----END-----\r\nä\r\n".encode()
    )


@pytest.fixture
def agent(tmp_path: Path, project: Project) -> Iterator[FakeAgent]:
    """An agent that is hostile wherever its messages have a text."""
    entry = SecretInfo("prod/db", HOSTILE, HOSTILE, HOSTILE, mappings=(("password", f"A{STEERING}"),))
    hostile = SecretInfo(HOSTILE, HOSTILE, HOSTILE, None, mappings=((HOSTILE, HOSTILE),))
    directory = tmp_path / "agent"
    directory.mkdir()
    with FakeAgent(
        directory,
        {"prod/db": json.dumps({"password": HOSTILE, HOSTILE: HOSTILE}).encode()},
        entries=[entry, hostile],
        driver=VolumeDriverState(HOSTILE, available=False, reason=HOSTILE),
        providers=[ProviderInfo(HOSTILE, HOSTILE, HOSTILE, HOSTILE)],
        cached=[CachedSecret(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1.0, stale=True)],
    ) as found:
        found.info = found.info._replace(version=HOSTILE)
        found.config_error, found.restart_needed = HOSTILE, [HOSTILE]
        found.faults["prod/bad"] = Fault(UNAVAILABLE, HOSTILE, HINT, provider=HOSTILE)
        line = json.dumps({"time": 1.0, "level": HOSTILE, "message": HOSTILE}) + "\n"
        found.answers["/v1/logs"] = b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n%b" % (len(line), line.encode())
        found.answers["/v1/reload"] = answer(
            200,
            {
                "changed": [HOSTILE],
                "failed": [Fault(UNAVAILABLE, HOSTILE, HINT, reference=f"dso://{HOSTILE}").to_json()],
                "configuration": {"providers_added": [HOSTILE], "restart_needed": [HOSTILE]},
            },
        )
        event = json.dumps({"event": f"secret.{HOSTILE}", "time": 1.0, HOSTILE: HOSTILE, "names": [HOSTILE, "x"]})
        found.broken["/v1/events"] = b"HTTP/1.1 200 X\r\n\r\nid: 1\nevent: x\ndata: " + event.encode() + b"\n\n"
        project.home.env.update({paths.SOCKET_VARIABLE: found.socket, paths.MODE_VARIABLE: "cloud"})
        yield found


@covers("fetch", "export", "sync", "logs", "status", "up", "validate")
def test_no_agent_and_no_provider_steers_the_terminal(project: Project, agent: FakeAgent) -> None:
    stack(project, environment={f"A{STEERING}": "dso://prod/bad", "PASSWORD": "dso://prod/db#password"})
    for words in (
        *(["status"], ["status", "-q"], ["status", "--format", "json"], ["logs"], ["validate"], ["up", "--dry-run"]),
        *(["fetch"], ["fetch", "-q"], ["fetch", "--format", "json"], ["fetch", "prod/db"], ["fetch", "prod/db", "-q"]),
        *(
            ["fetch", "prod/db", "--reveal"],
            ["fetch", "prod/db", "--reveal", "--format", "json"],
            ["fetch", "prod/bad"],
        ),
        *(["fetch", "prod/db#password", "--reveal"], ["export", "prod/db"], ["export", "--format", "json", "prod/db"]),
        *(["export", "--format", "yaml", "prod/db"], ["sync"], ["sync", "-q"], ["sync", "--format", "json"]),
        *(["sync", "prod/db"], ["__complete", "dso", "fetch", ""], ["__complete", "dso", "sync", ""]),
    ):
        shown(project, *words)


@covers("watch")
@pytest.mark.parametrize("form", ["table", "json"])
def test_no_event_steers_the_terminal(project: Project, agent: FakeAgent, form: str) -> None:
    with project.terminal("docker", "dso", "watch", "--format", form) as terminal:
        terminal.expect("secret.evil")
        terminal.expect("forged")
        terminal.expect("\n")
        terminal.control_c()
        terminal.wait()
    checked(terminal.shown.replace(b"^C", b""))


@covers("system")
def test_no_program_that_doctor_asks_steers_the_terminal(project: Project) -> None:
    plugins = os.path.join(project.home.path, ".docker", "cli-plugins")
    script = project.write("compose", "#!/bin/sh\nprintf '2.30.0%s' \"$EVIL\"\n", mode=0o755)
    if os.path.lexists(f"{plugins}/docker-compose"):
        os.unlink(f"{plugins}/docker-compose")
    os.symlink(script, f"{plugins}/docker-compose")
    project.home.env["EVIL"] = HOSTILE
    for words in (["system", "doctor"], ["system", "doctor", "--format", "json"], ["system", "status"]):
        shown(project, *words)


def test_every_command_is_among_them() -> None:
    assert set(COMMANDS) <= COVERED
