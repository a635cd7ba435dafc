"""While a stack is brought up, and when that fails: no value in words, variables, messages, core or temporary files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.canary import Canary, assert_absent
from tests.support.process import started
from tests.support.processes import descendants, in_directory
from tests.support.stacks import BUSYBOX, SLEEP, services, store, variable
from tests.support.wait import wait_until

STACK = (
    services(
        env=SLEEP + variable("KEY", "dso://v/variable"),
        template=SLEEP + variable("URL", "db://u:{{dso://v/variable}}@h"),
        file=SLEEP + variable("KEY_FILE", "dsofile://v/file"),
        config=f"{SLEEP}\n    configs: [config]\n    secrets: [secret]",
    )
    + 'secrets: {secret: {file: "dsofile://v/file"}}\n'
    + 'configs: {config: {content: "<{{dso://v/file}}>"}}\n'
)


@pytest.fixture
def canaries():
    return {"variable": Canary.new(), "file": Canary.new()}


@pytest.fixture
def stack(home, project, canaries):
    store(home, **{name: canary.value for name, canary in canaries.items()})
    project.compose_yaml(STACK)
    return project


def found_in(data, canaries):
    return [name for name, canary in canaries.items() if canary.find(data)]


# Words and variables of processes.


def executed(project, *words, env=None):
    """Every program that a command runs, with all its words and variables, as strace writes them down."""
    log = Path(project.home.path, "executed")
    tracer = ["strace", "-f", "-qq", "-v", "-s", "1000000", "-e", "trace=execve,execveat", "-o", str(log)]
    project.home.command(*tracer, *words, cwd=project.directory, env=env)
    text = log.read_bytes()
    log.unlink()
    return text


def test_no_program_gets_a_value_as_a_word_or_a_variable(stack, canaries):
    for words in (["up", "-d"], ["up", "-d"], ["validate"], ["compose", "run", "--rm", "env", "true"], ["down"]):
        programs = executed(stack, "docker", "dso", *words)
        assert b"docker-compose" in programs
        assert found_in(programs, canaries) == []
    mine = executed(stack, "docker", "dso", "validate", env={"MINE": canaries["file"].text})
    assert found_in(mine, canaries) == ["file"]  # the search does find variables


# Messages.


def test_nothing_that_is_printed_has_a_value(stack, canaries):
    commands = [
        ["up", "-d"],
        ["up", "--dry-run"],
        ["up", "--dry-run", "--format", "json"],
        ["validate"],
        ["diff"],
        ["status"],
        ["secret", "list"],
        ["secret", "history", "v/file"],
        ["vault", "status"],
        ["vault", "check"],
        ["compose", "ps", "--all"],
        ["down"],
    ]
    for words in commands:
        done = stack.dso("--debug", *words)
        assert found_in(done.stdout + done.stderr, canaries) == [], words
        for service in ("env", "template", "file", "config") if words == ["up", "-d"] else []:
            for options in ([], ["--format", "json"]):
                shown = stack.dso("--debug", "inspect", *options, stack.container(service))
                assert found_in(shown.stdout + shown.stderr, canaries) == []
                assert b"********" in shown.stdout or service == "file"


def unsuitable(stack, canaries):
    store(stack.home, variable=canaries["variable"].around(b"\0").value)


def several_fields(stack, canaries):
    value = json.dumps({"user": canaries["variable"].text, "password": canaries["variable"].text})
    store(stack.home, variable=value)


def missing_secret(stack, canaries):
    stack.home.dso("secret", "rm", "-f", "v/file")


def damaged_vault(stack, canaries):
    path = Path(stack.home.vault_file)
    path.write_bytes(path.read_bytes()[:-1])


def foreign_volume(stack, canaries):
    stack.engine.docker("volume", "create", f"{stack.name}_dso_file")


def missing_image(stack, canaries):
    stack.compose_yaml(STACK.replace("dso-test/busybox", "dso-test/none:none") + "x-none: 1\n")


def refused_container(stack, canaries):
    stack.compose_yaml(STACK.replace("command: sleep 100000", "command: sleep 100000\n    cpuset: '4095'"))


FAILURES = [
    (unsuitable, "UnsuitableValueError"),
    (several_fields, "SecretFieldError"),
    (missing_secret, "SecretNotFoundError"),
    (damaged_vault, "VaultDamagedError"),
    (foreign_volume, "VolumeConflictError"),
    (missing_image, None),
    (refused_container, None),
]


@pytest.mark.parametrize(("provoke", "error"), FAILURES, ids=[provoke.__name__ for provoke, _ in FAILURES])
def test_no_failure_tells_a_value_even_with_debug(provoke, error, stack, canaries, tmp_path):
    provoke(stack, canaries)
    before = stack.containers()
    failed = stack.dso("--debug", "up", "-d", "--pull=never", check=False, env={"TMPDIR": str(tmp_path)})
    assert failed.returncode not in (0, 70)
    assert ("Traceback (values left out)" in failed.err) == (error is not None)
    assert error is None or error in failed.err
    assert found_in(failed.stdout + failed.stderr, canaries) == []
    assert error is None or stack.containers() == before
    assert stack.keepers() == []


# Crashes and temporary files.

ALLOWING_CORE_FILES = ("bash", "-c", 'ulimit -c unlimited && exec "$0" "$@"')


def core_limit(pid):
    with open(f"/proc/{pid}/limits", encoding="ascii") as limits:
        (line,) = [line for line in limits if line.startswith("Max core file size")]
    return line.split()[4]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
@pytest.mark.parametrize("victim", ["docker-dso", "docker-compose"])
def test_crash_leaves_no_core_file_and_no_plaintext(victim, number, stack, canaries, engine, tmp_path):
    """DSO and Compose have the values in their memory, and whoever starts them allows core files of any size."""
    body = f"{BUSYBOX}\n    command: sh -c 'echo ready; sleep 100000'"
    stack.compose_yaml(services(file=body + variable("KEY_FILE", "dsofile://v/file")))
    with started(
        [*ALLOWING_CORE_FILES, stack.home.plugin, "up"],
        cwd=stack.directory,
        env=stack.home.environment({"TMPDIR": str(tmp_path), "GOTRACEBACK": "crash"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as up:
        wait_until(lambda: b"ready" in (up.stdout.readline() if up.stdout else b""), "the container runs")
        running = {process.name: process.pid for process in descendants(up.pid)}
        assert set(running) >= {"docker", "docker-compose"}
        assert "docker-dso" not in running  # it is the one that was started
        running["docker-dso"] = up.pid
        assert {core_limit(pid) for pid in running.values()} == {"1"}
        os.kill(running[victim], number)
        if victim == "docker-dso":
            up.wait(60)
            os.kill(running["docker-compose"], signal.SIGTERM)  # it goes on without us
        out, err = up.communicate(timeout=60)
    wait_until(lambda: not in_directory(stack.directory), "nothing of it runs any more")
    assert_absent(*canaries.values(), engine=engine, project=stack, outputs={"up": out + err}, places=[str(tmp_path)])
    assert [name for name in os.listdir(stack.directory) if name.startswith("core")] == []
    stack.dso("up", "-d")
    stack.dso("down")
    stack.assert_nothing_left()


def test_core_file_would_be_seen(tmp_path):
    """What the test above looks for appears here without DSO: an ordinary program that crashes leaves its core file."""
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as stream:
        pattern = stream.read().strip()
    if pattern.startswith(("|", "/")):
        return  # not into the working directory: then the limits are what counts
    subprocess.run(
        [*ALLOWING_CORE_FILES, "sh", "-c", "kill -SEGV $$"],
        cwd=tmp_path,
        check=False,
    )
    assert [name for name in os.listdir(tmp_path) if name.startswith("core")] != []


def test_nothing_is_left_in_the_temporary_directory(stack, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for words in (["up", "-d"], ["diff"], ["compose", "ps"], ["status"], ["secret", "get", "v/file"], ["down"]):
        stack.dso(*words, env={"TMPDIR": str(temporary)})
        assert os.listdir(temporary) == []
