"""Starting the Compose plugin's own program: which one, with what, and when Docker has to do it instead."""

import os

import pytest

from dso.compose import plugin
from dso.compose.command import parse_command
from dso.compose.model import finish_reading, start_reading
from dso.errors import ComposeFailedError, ComposeNotFoundError, DockerNotFoundError
from dso.system.memory import memory_file

STARTED_BY = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"

ECHO = """#!/bin/sh
echo "$0" "$@"
echo "for:$DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"
cat
"""


def write_program(path, text, mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def fake_docker(tmp_path, text=ECHO):
    return write_program(tmp_path / "bin" / "docker", text)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A user without plugins or settings on a machine without any; Docker has started us."""
    system = tuple(str(tmp_path / name) for name in ("system-1", "system-2"))
    monkeypatch.setattr(plugin, "SYSTEM_DIRECTORIES", system)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv(STARTED_BY, "docker")


@pytest.fixture
def system_plugin(tmp_path):
    return write_program(tmp_path / "system-2" / "docker-compose", ECHO)


def configure(tmp_path, text):
    (tmp_path / ".docker").mkdir(exist_ok=True)
    (tmp_path / ".docker" / "config.json").write_text(text)


def test_the_users_plugin_comes_first(tmp_path, system_plugin):
    assert plugin.find_plugin([]) == system_plugin
    earlier = write_program(tmp_path / "system-1" / "docker-compose", ECHO)
    assert plugin.find_plugin([]) == earlier
    own = write_program(tmp_path / ".docker" / "cli-plugins" / "docker-compose", ECHO)
    assert plugin.find_plugin([]) == own


@pytest.mark.parametrize(
    "flags", [["--config", "DIR"], ["--config=DIR"], ["--config=/nowhere", "-H", "unix:///x", "--config", "DIR"]]
)
def test_dockers_flag_chooses_the_directory(tmp_path, monkeypatch, flags):
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    own = write_program(tmp_path / "other" / "cli-plugins" / "docker-compose", ECHO)
    assert plugin.find_plugin([flag.replace("DIR", str(tmp_path / "other")) for flag in flags]) == own


def test_dockers_variable_chooses_the_directory(tmp_path, monkeypatch):
    own = write_program(tmp_path / "other" / "cli-plugins" / "docker-compose", ECHO)
    assert plugin.find_plugin([]) is None
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "other"))
    assert plugin.find_plugin([]) == own


@pytest.mark.parametrize(
    "text", ["{}", '{"auths": {}, "currentContext": "prod", "plugins": {"scout": {"x": "y"}}}', ""]
)
def test_settings_that_do_not_matter_do_not_matter(tmp_path, system_plugin, text):
    configure(tmp_path, text)
    assert plugin.find_plugin([]) == system_plugin


@pytest.mark.parametrize(
    "text",
    [
        '{"cliPluginsExtraDirs": ["/opt/plugins"]}',
        '{"CLIPLUGINSEXTRADIRS": ["/opt/plugins"]}',
        '{"aliases": {"builder": "buildx"}}',
        '{"\\u0061liases": {"builder": "buildx"}}',
    ],
)
@pytest.mark.usefixtures("system_plugin")
def test_settings_that_only_docker_can_judge_leave_it_to_docker(tmp_path, text):
    configure(tmp_path, text)
    assert plugin.find_plugin([]) is None


@pytest.mark.usefixtures("system_plugin")
def test_settings_that_cannot_be_read_leave_it_to_docker(tmp_path):
    (tmp_path / ".docker" / "config.json").mkdir(parents=True)
    assert plugin.find_plugin([]) is None


@pytest.mark.usefixtures("system_plugin")
def test_without_docker_as_our_parent_it_is_left_to_what_is_called_docker(monkeypatch):
    monkeypatch.delenv(STARTED_BY)
    assert plugin.find_plugin([]) is None


@pytest.mark.usefixtures("system_plugin")
def test_a_first_candidate_that_cannot_run_hides_the_others_as_it_does_for_docker(tmp_path):
    write_program(tmp_path / "system-1" / "docker-compose", ECHO, mode=0o644)
    assert plugin.find_plugin([]) is None


@pytest.mark.usefixtures("system_plugin")
def test_a_directory_in_the_plugins_place_leaves_it_to_docker(tmp_path):
    (tmp_path / "system-1" / "docker-compose").mkdir(parents=True)
    assert plugin.find_plugin([]) is None


def test_the_plugin_gets_what_docker_would_give_it(system_plugin):
    stdin = memory_file("stdin", b"services: {}\n")
    os.lseek(stdin, 0, os.SEEK_SET)
    finished = plugin.Compose(["/x/docker", "-c", "prod"]).start(["-p", "shop", "config"], stdin=stdin).wait()
    assert finished.code == 0
    assert finished.stdout.decode().splitlines() == [
        f"{system_plugin} -c prod compose -p shop config",
        "for:/x/docker",
        "services: {}",
    ]


def test_without_a_plugin_docker_is_asked(tmp_path):
    docker = fake_docker(tmp_path)
    finished = plugin.Compose([docker, "-D"]).start(["config"]).wait()
    assert finished.stdout.decode().splitlines() == [f"{docker} -D compose config", "for:"]


@pytest.mark.parametrize("text", ["not a program", "#!/nowhere/interpreter\n"])
def test_a_plugin_that_cannot_be_started_is_left_to_docker(tmp_path, text):
    write_program(tmp_path / "system-1" / "docker-compose", text)
    docker = fake_docker(tmp_path)
    assert plugin.Compose([docker]).start(["config"]).wait().stdout.startswith(docker.encode())


def test_after_a_failure_dockers_answer_counts(tmp_path):
    reads_all = "#!/bin/sh\ncat >/dev/null\necho half a model\necho nonsense >&2\nexit 3\n"
    write_program(tmp_path / "system-1" / "docker-compose", reads_all)
    docker = fake_docker(tmp_path)
    stdin = memory_file("stdin", b"services: {}\n")
    os.lseek(stdin, 0, os.SEEK_SET)
    finished = plugin.Compose([docker]).start(["config"], stdin=stdin).wait()
    assert (finished.code, finished.stderr) == (0, b"")
    assert finished.stdout.decode().splitlines() == [f"{docker} compose config", "for:", "services: {}"]


def read_model(docker):
    command = parse_command(["up"], lambda _words, _index: 0, describe=lambda _name: "")
    return finish_reading(start_reading(plugin.Compose([docker]), command, None), command)


def test_a_foreign_program_in_the_plugins_place_is_a_missing_compose(tmp_path):
    write_program(tmp_path / "system-1" / "docker-compose", "#!/bin/sh\necho 'No such command: compose' >&2\nexit 1\n")
    docker = fake_docker(tmp_path, "#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2\nexit 1\n")
    with pytest.raises(ComposeNotFoundError):
        read_model(docker)


@pytest.mark.usefixtures("system_plugin")
def test_no_compose_at_all_is_a_missing_compose(tmp_path):
    os.unlink(tmp_path / "system-2" / "docker-compose")
    docker = fake_docker(tmp_path, "#!/bin/sh\necho \"unknown shorthand flag: 'f' in -f\" >&2\nexit 125\n")
    with pytest.raises(ComposeNotFoundError):
        read_model(docker)


def test_no_docker_at_all_is_a_missing_docker():
    with pytest.raises(DockerNotFoundError):
        plugin.Compose(["/nowhere/docker"]).start(["config"])


def test_composes_own_error_is_the_one_that_docker_shows(tmp_path):
    write_program(tmp_path / "system-1" / "docker-compose", "#!/bin/sh\necho 'yaml: line 3' >&2\nexit 15\n")
    docker = fake_docker(tmp_path, "#!/bin/sh\necho 'yaml: line 3' >&2\nexit 15\n")
    with pytest.raises(ComposeFailedError) as caught:
        read_model(docker)
    assert caught.value.code == 15


def test_the_model_of_the_plugin_is_read_without_docker(tmp_path):
    write_program(tmp_path / "system-1" / "docker-compose", '#!/bin/sh\necho \'{"name": "shop"}\'\n')
    assert read_model("/nowhere/docker").project == "shop"


NOTE_ENVIRONMENT = '#!/bin/sh\nenv | sort | grep -v "^_=" >"$0.$2"\necho "$0 $*" >>"$0.words"\nexit {code}\n'


def environment_of(program, word):
    with open(f"{program}.{word}", encoding="utf-8") as file:
        return file.read()


def test_what_was_read_is_run_by_the_same_program_in_the_same_environment(tmp_path, monkeypatch):
    """Or a file could be one thing when it is looked at, and another when it is started: Compose puts variables in."""
    monkeypatch.setenv("DOCKER_CLI_PLUGIN_SOCKET", "@docker_cli_0011")
    program = tmp_path / "system-1" / "docker-compose"
    write_program(program, NOTE_ENVIRONMENT.format(code=0))
    compose = plugin.Compose(["/x/docker"], {"COMPOSE_EXPERIMENTAL_GIT_REMOTE": "false"})
    assert compose.start(["config"]).wait().code == 0
    assert compose.attach(["up"]) == 0
    seen = environment_of(program, "config")
    assert seen == environment_of(program, "up")
    assert "COMPOSE_EXPERIMENTAL_GIT_REMOTE=false\n" in seen
    assert "DOCKER_CLI_PLUGIN_SOCKET" not in seen


def test_what_docker_had_to_read_docker_runs(tmp_path):
    write_program(tmp_path / "system-1" / "docker-compose", NOTE_ENVIRONMENT.format(code=3))
    docker = tmp_path / "docker"
    write_program(docker, NOTE_ENVIRONMENT.format(code=0))
    compose = plugin.Compose([str(docker)])
    assert compose.start(["config"]).wait().code == 0
    assert compose.attach(["up"]) == 0
    assert environment_of(docker, "config") == environment_of(docker, "up")
    assert not (tmp_path / "system-1" / "docker-compose.up").exists()
