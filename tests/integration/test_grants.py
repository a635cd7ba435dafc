"""A project gets what its directory was granted, whatever its files say, and nothing starts before."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dso.errors import InsecurePermissionsError, NotGrantedError
from tests.support.canary import Canary
from tests.support.home import DsoHome
from tests.support.process import run, started
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.process import Result
    from tests.support.project import Project

REFUSED = NotGrantedError.code
SERVICE = """
services:
  api:
    image: dso-test/busybox
    command: sleep 1000
    stop_signal: SIGKILL
    environment: {KEY: "%s"}
"""
FILE_SERVICE = """
services:
  api:
    image: dso-test/busybox
    command: sleep 1000
    stop_signal: SIGKILL
    environment: {KEY_FILE: "dsofile://bank/api_key"}
"""
SHOP, BANK, STRIPE = "dso://shop/key", "dso://bank/api_key", "dso://stripe_key"


@pytest.fixture
def home(tmp_path, variant):
    """A user whose projects need grants, with secrets in two namespaces and one in none."""
    home = DsoHome(str(tmp_path / "home"), variant, allow="")
    home.run("init")
    for name in ("shop/key", "bank/api_key", "stripe_key"):
        home.run("secret", "set", name, input=canary_of(name).value)
    return home


CANARIES: dict[str, Canary] = {}


def canary_of(name: str) -> Canary:
    return CANARIES.setdefault(name, Canary.new())


@pytest.fixture
def shop(make_project: Callable[[], Project]) -> Project:
    """The user's own project, granted namespace shop."""
    project = make_project()
    project.compose_yaml(SERVICE % SHOP)
    project.dso("allow", "shop")
    return project


@pytest.fixture
def clone(make_project: Callable[[], Project]) -> Project:
    """A stranger's project."""
    return make_project()


def refused(project: Project, *words: str, told: tuple[str, ...] = (), **options) -> Result:
    """Run what must be refused: before anything starts, without a value, and with what to do."""
    result = project.dso(*words, check=False, **options)
    assert result.returncode == REFUSED, result.err
    for canary in CANARIES.values():
        assert not canary.find(result.stdout + result.stderr)
    assert "hint: " in result.err
    for text in told:
        assert text in result.err
    assert project.leftovers() == []
    return result


def grants_of(home: DsoHome) -> str:
    path = Path(home.dso_dir, "grants.json")
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("name", ["", "name: bank\n"], ids=["own name", "name: bank"])
@pytest.mark.parametrize("reference", [BANK, STRIPE, "dso://api_key", "x-{{dso://bank/api_key}}"])
@pytest.mark.parametrize(
    "words",
    [
        ("up", "-d"), ("up", "--dry-run"), ("validate",), ("diff",), ("compose", "run", "--rm", "api", "env"),
        ("compose", "create"), ("compose", "restart"), ("compose", "start"), ("compose", "scale", "api=1"),
        ("compose", "watch", "--no-up"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_clone_gets_nothing_by_any_command(clone, name, reference, words) -> None:
    clone.compose_yaml(name + SERVICE % reference)
    clone.names.append("bank")
    refused(clone, *words, told=("service api, variable KEY", "docker dso allow"))


def test_a_clone_gets_no_file_and_no_keeper(clone) -> None:
    clone.compose_yaml(FILE_SERVICE)
    refused(clone, "up", "-d", told=("docker dso allow bank",))
    assert clone.keepers() == []


def test_a_clone_gets_no_content_of_a_configuration_file(clone) -> None:
    clone.compose_yaml(
        "configs: {app: {content: 'p = {{dso://bank/api_key}}'}}\n"
        "services: {api: {image: dso-test/busybox, command: sleep 1000, configs: [app]}}\n"
    )
    refused(clone, "up", "-d")


def test_what_is_not_granted_is_not_told_to_exist(clone) -> None:
    """The log of a CI job may be the attacker's to read."""
    told = []
    for reference in (BANK, "dso://bank/api_kez", "dso://pin", STRIPE):
        clone.compose_yaml("name: bank\n" + SERVICE % reference)
        told.append(refused(clone, "up", "-d").err.replace(reference, "REFERENCE"))
    assert told[0] == told[1]
    assert told[2] == told[3]


def test_a_granted_project_starts_and_only_with_what_it_was_granted(shop) -> None:
    shop.dso("up", "-d")
    assert canary_of("shop/key").find(shop.exec("api", "env").stdout)
    shop.dso("down")
    shop.compose_yaml(SERVICE % "{{dso://shop/key}}{{dso://bank/api_key}}")
    refused(shop, "up", "-d", told=("dso://bank/api_key", "docker dso allow bank"))


def test_the_command_in_the_hint_is_what_it_takes(clone) -> None:
    clone.compose_yaml(SERVICE % "{{dso://shop/key}}{{dso://bank/api_key}}")
    (line,) = [line for line in refused(clone, "validate").err.splitlines() if "docker dso allow" in line]
    clone.home.command("sh", "-c", line.partition(": ")[2].partition(": ")[2], cwd=clone.directory)
    clone.dso("validate")


def test_a_secret_without_a_namespace_is_granted_by_name(clone) -> None:
    clone.compose_yaml(SERVICE % STRIPE)
    refused(clone, "validate")
    assert clone.dso("allow", "global", check=False).returncode == 125
    clone.dso("allow", "global/stripe_key")
    clone.dso("validate")
    clone.compose_yaml("name: bank\n" + SERVICE % "dso://api_key")
    refused(clone, "validate")


def test_worktrees_and_monorepos_below_have_the_grant_and_a_copy_beside_has_not(shop) -> None:
    below = shop.path("worktrees", "fix", "service")
    shutil.copytree(shop.directory, below)
    beside = shop.directory + "-copy"
    shutil.copytree(shop.directory, beside)
    assert shop.home.run("validate", cwd=below).returncode == 0
    assert shop.home.run("validate", cwd=beside, check=False).returncode == REFUSED


def test_a_symlinked_release_below_the_grant_has_it(shop) -> None:
    shutil.copytree(shop.directory, shop.path("releases", "7"))
    os.symlink("releases/7", shop.path("current"))
    shop.home.run("validate", cwd=shop.path("current"))
    shop.home.run("validate", "-f", shop.path("current", "compose.yaml"))


def test_a_file_of_another_directory_has_what_that_directory_has(shop, clone) -> None:
    clone.compose_yaml(SERVICE % SHOP)
    clone.dso("validate", "-f", shop.path("compose.yaml"))
    refusal = shop.dso("validate", "-f", clone.path("compose.yaml"), check=False)
    assert refusal.returncode == REFUSED
    assert f"docker dso allow --directory {clone.directory} shop" in refusal.err
    assert shop.dso("validate", "-f", "-", input=SERVICE % SHOP).returncode == 0
    assert clone.dso("validate", "-f", "-", input=SERVICE % SHOP, check=False).returncode == REFUSED


def test_local_includes_are_the_projects_own(shop, clone) -> None:
    clone.compose_yaml(SERVICE % SHOP)
    shop.compose_yaml(f"include: [{clone.path('compose.yaml')}]\n")
    shop.dso("validate")
    clone.compose_yaml(f"include: [{shop.path('compose.yaml')}]\nservices: {{evil: {{image: dso-test/busybox}}}}\n")
    shop.compose_yaml(SERVICE % SHOP)
    refused(clone, "validate")


@pytest.fixture
def elsewhere(tmp_path):
    """A Compose file of a stranger's, in a git repository that is reached over the network: the address to include."""
    repository = tmp_path / "served" / "evil"
    repository.mkdir(parents=True)
    (repository / "compose.yaml").write_text(SERVICE % SHOP)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-c", "init.defaultBranch=main", "-C", str(repository)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        run([*git, *words])
    address = "127." + ".".join(str(1 + each % 250) for each in os.urandom(3))  # nobody else's
    daemon = ["git", "daemon", f"--base-path={repository.parent}", "--export-all", f"--listen={address}"]
    with started(daemon, start_new_session=True):  # `git` runs `git-daemon`: both have to end
        url = f"git://{address}/evil"
        wait_until(lambda: not run(["git", "ls-remote", url], check=False).returncode, "git daemon serves")
        yield url


def test_what_is_fetched_from_elsewhere_is_never_covered_by_a_directory(shop, elsewhere) -> None:
    shop.home.env["COMPOSE_EXPERIMENTAL_GIT_REMOTE"] = "true"  # Compose 2.26 wants it said
    for text in (
        f"include: ['{elsewhere}']\n" + (SERVICE % "plain").replace("api:", "other:"),
        (SERVICE % SHOP).replace(
            "    image: dso-test/busybox\n", f"    extends: {{file: '{elsewhere}', service: api}}\n"
        ),
    ):
        shop.compose_yaml(text)
        refused(shop, "up", "-d", told=("fetched", "DSO_ALLOW=shop"))
        shop.dso("validate", env={"DSO_ALLOW": "shop"})
        assert shop.dso("allow", "--yes", check=False).returncode == 125
    refused(shop, "up", "-d", "-f", elsewhere)


def test_what_is_fetched_from_elsewhere_is_asked_about_each_time(shop, elsewhere) -> None:
    shop.home.env["COMPOSE_EXPERIMENTAL_GIT_REMOTE"] = "true"
    shop.compose_yaml(f"include: ['{elsewhere}']\n")
    before = grants_of(shop.home)
    for _ in range(2):
        with shop.terminal("docker", "dso", "validate") as terminal:
            terminal.expect("each time")
            terminal.expect("[y/N] ")
            terminal.line("y")
            assert terminal.wait() == 0
    assert grants_of(shop.home) == before


def test_an_env_file_that_names_anothers_files_takes_nothing_of_their_grant(shop, clone) -> None:
    clone.write("evil.yaml", SERVICE % SHOP)
    clone.write(".env", f"COMPOSE_FILE={shop.path('compose.yaml')}:evil.yaml\n")
    refused(clone, "up", "-d", told=(clone.directory,))
    clone.write(".env", f"COMPOSE_FILE={shop.path('compose.yaml')}\n")
    refused(clone, "up", "-d")
    clone.write(".env", "COMPOSE_PATH_SEPARATOR=%\n")
    names = {"COMPOSE_FILE": f"{shop.path('compose.yaml')}%evil.yaml"}
    refused(clone, "up", "-d", env=names)
    os.remove(clone.path(".env"))
    clone.dso("validate", env={**names, "COMPOSE_PATH_SEPARATOR": "%"})


def test_the_projects_env_file_takes_no_grant_for_what_lies_beside_it(shop, tmp_path) -> None:
    """With files of the directory above, one yes would be for every clone there."""
    source = tmp_path / "src"
    for name in ("evil", "evil2"):
        shutil.copytree(shop.directory, source / name)
    Path(source, "compose.yaml").write_text("services: {db: {image: dso-test/busybox}}\n")
    evil, home = str(source / "evil"), shop.home
    Path(evil, ".env").write_text("COMPOSE_FILE=compose.yaml:../compose.yaml\n")
    Path(evil, "compose.yaml").write_text(SERVICE % "{{dso://shop/key}}{{dso://stripe_key}}")
    before = grants_of(home)
    with home.terminal("docker", "dso", "validate", cwd=evil) as terminal:
        assert terminal.wait() == REFUSED
        assert b"[y/N]" not in terminal.shown
    commands = (
        f"docker dso allow shop global/stripe_key && docker dso allow --directory {source} shop global/stripe_key"
    )
    for words in (("allow",), ("allow", "--yes")):
        told = home.run(*words, cwd=evil, check=False)
        assert (told.returncode, commands in told.err) == (REFUSED, True), told.err
    assert grants_of(home) == before
    made = home.run("secret", "set", "fresh/key", input="x", cwd=evil).err
    assert f"docker dso allow --directory {source} fresh" in made
    granted = {each["directory"]: each["namespaces"] for each in json.loads(grants_of(home))["grants"]}
    assert granted == {shop.directory: ["shop"], evil: ["fresh"]}
    home.command("sh", "-c", commands, cwd=evil)
    home.run("validate", cwd=evil)


def test_allow_says_what_is_not_stored_yet(clone) -> None:
    clone.compose_yaml(SERVICE % "{{dso://stripe_key}}{{dso://later}}")
    told = clone.dso("allow", check=False).err
    assert "global/later   service api, variable KEY   (not in the vault yet)" in told
    assert "global/stripe_key   service api, variable KEY\n" in told


def test_the_projects_env_file_allows_nothing(clone) -> None:
    clone.compose_yaml(SERVICE % BANK)
    clone.write(".env", "DSO_ALLOW=*\nHOME=/\n")
    refused(clone, "up", "-d")
    refused(clone, "up", "-d", "--env-file", ".env")
    refused(clone, "up", "-d", env={"COMPOSE_ENV_FILES": ".env"})


@pytest.mark.parametrize(
    ("allow", "granted"),
    [("*", True), ("bank", True), ("shop, bank/api_key", True), ("shop", False), ("bank/api", False), ("", False)],
)
def test_ci_allows_by_the_environment_of_the_process(clone, allow, granted) -> None:
    clone.compose_yaml(SERVICE % BANK)
    result = clone.dso("validate", env={"DSO_ALLOW": allow}, check=False)
    assert result.returncode == (0 if granted else REFUSED)
    assert grants_of(clone.home) == ""


def test_a_malformed_dso_allow_is_an_error(clone) -> None:
    clone.compose_yaml(SERVICE % BANK)
    for wrong in ("bank/*", "global", "bank api"):
        result = clone.dso("validate", env={"DSO_ALLOW": wrong}, check=False)
        assert result.returncode == 125
        assert "DSO_ALLOW" in result.err


def test_the_plain_way_of_the_readme_asks_nothing(clone) -> None:
    clone.write(".env", "API_KEY=k1\nDB_PASSWORD=p1\n")
    clone.compose_yaml(SERVICE % "dso://new/API_KEY")
    clone.dso("env", "import", ".env", "new")
    clone.dso("secret", "set", "token", input="t")
    clone.dso("validate")
    clone.compose_yaml(SERVICE % "{{dso://token}}{{dso://new/DB_PASSWORD}}")
    clone.dso("validate")


def test_only_what_is_new_is_granted_to_the_directory_it_is_made_in(clone) -> None:
    clone.compose_yaml(SERVICE % BANK)
    clone.dso("secret", "set", "bank/other", input="x")
    clone.dso("secret", "set", "stripe_key", input="another value")
    clone.write(".env", "stripe_key=y\nfresh=1\n")
    clone.dso("env", "import", ".env", "--replace")
    clone.dso("env", "import", ".env", "bank", "--replace")
    (grant,) = json.loads(grants_of(clone.home))["grants"]
    assert (grant["namespaces"], grant["secrets"]) == ([], ["global/fresh"])
    refused(clone, "validate")


def test_who_had_the_name_of_something_new_before_is_named(clone, make_project) -> None:
    """A namespace that was emptied, or allowed before there was one, is granted elsewhere still."""
    elsewhere = make_project()
    elsewhere.compose_yaml(SERVICE % "dso://new/API_KEY")
    elsewhere.dso("allow", "new")
    clone.compose_yaml(SERVICE % "dso://new/API_KEY")
    made = clone.dso("secret", "set", "new/API_KEY", input="k")
    assert f"docker dso deny --directory {elsewhere.directory} new" in made.err
    assert clone.dso("secret", "set", "new/other", input="k").err.count("deny") == 0, "it is not new any more"


def test_nothing_is_granted_where_no_compose_file_is(home) -> None:
    home.run("secret", "set", "fresh/key", input="x")
    assert grants_of(home) == ""


def test_a_dry_run_grants_nothing(clone) -> None:
    clone.compose_yaml(SERVICE % "dso://new/API_KEY")
    clone.write(".env", "API_KEY=k1\n")
    clone.dso("env", "import", ".env", "new", "--dry-run")
    assert grants_of(clone.home) == ""


def test_a_moved_secret_is_not_opened_to_who_had_that_name_before(shop, clone) -> None:
    clone.compose_yaml(SERVICE % "dso://old")
    clone.dso("allow", "global/old", "gone")
    shop.dso("secret", "mv", "bank/api_key", "old")
    refused(clone, "validate")
    clone.compose_yaml(SERVICE % "dso://gone/key")
    told = shop.dso("secret", "mv", "old", "gone/key").err
    assert clone.directory in told
    refused(clone, "validate")


def test_who_may_have_a_moved_secret_is_said(shop) -> None:
    told = shop.home.run("secret", "mv", "bank/api_key", "shop/api_key").err
    assert shop.directory in told


def test_another_vault_put_in_place_is_not_opened(shop, make_home, tmp_path) -> None:
    other = make_home("other")
    other.run("init")
    other.run("secret", "set", "shop/key", input="of another vault")
    backup = str(tmp_path / "backup.enc")
    other.run("vault", "backup", backup)
    key = Path(other.dso_dir, "master.key").read_text().strip()
    shop.home.run("vault", "backup", str(tmp_path / "own.enc"))
    shop.home.run("vault", "restore", str(tmp_path / "own.enc"))
    shop.dso("validate")
    shop.home.run("vault", "restore", backup, env={"DSO_MASTER_KEY": key})
    refused(shop, "validate", env={"DSO_MASTER_KEY": key})


def test_others_who_can_write_there_break_the_grant_and_the_chmod_is_said(shop) -> None:
    inner = shop.path("drop", "project")
    shutil.copytree(shop.directory, inner)
    shop.home.run("validate", cwd=inner)
    os.chmod(shop.path("drop"), 0o777)
    result = shop.home.run("validate", cwd=inner, check=False)
    assert result.returncode == REFUSED
    assert f"chmod o-w {shop.path('drop')}" in result.err
    os.chmod(shop.directory, 0o777)
    refused(shop, "validate", told=(f"chmod o-w {shop.directory}",))
    assert shop.dso("allow", "shop", check=False).returncode == REFUSED


def test_another_directory_put_in_the_place_of_the_granted_one_gets_nothing(shop, clone, tmp_path) -> None:
    """Whoever can write to the directory above can rename both."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    for name, project in (("shop", shop), ("evil", clone)):
        project.compose_yaml(SERVICE % SHOP)
        shutil.copytree(project.directory, shared / name)
    place, home = str(shared / "shop"), shop.home
    home.run("allow", "shop", cwd=place)
    shared.chmod(0o777)
    (shared / "shop").rename(shared / "x")
    (shared / "evil").rename(shared / "shop")
    result = home.run("validate", cwd=place, check=False)
    assert result.returncode == REFUSED
    assert f"{shared} can be written to by every user" in result.err
    assert f"hint: chmod +t {shared}" in result.err
    listed = {each["directory"]: each for each in json.loads(home.run("allow", "--list", "--format", "json").out)}
    assert not listed[place]["counts"]
    assert str(shared) in listed[place]["why"]
    refused_too = home.run("allow", "bank", cwd=place, check=False)
    assert (refused_too.returncode, f"chmod +t {shared}" in refused_too.err) == (REFUSED, True)
    home.run("validate", cwd=place, env={"DSO_ALLOW": "shop"})
    told = home.run("secret", "set", "fresh/key", input="x", cwd=place).err
    assert "was not granted all of namespace fresh" in told
    shared.chmod(0o1777)
    home.run("validate", cwd=place)


def test_a_grant_to_the_home_directory_is_not_for_the_clones_in_it(home) -> None:
    clone = os.path.join(home.path, "src", "clone")
    os.makedirs(clone)
    for directory in (home.path, clone):
        Path(directory, "compose.yaml").write_text(SERVICE % BANK)
    assert "home directory" in home.run("allow", "bank").err
    home.run("validate")
    assert home.run("validate", cwd=clone, check=False).returncode == REFUSED


@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to another user")
@pytest.mark.parametrize(
    "words",
    [
        ("init",), ("secret", "get", "shop/key"), ("secret", "set", "shop/key", "--generate"), ("secret", "list"),
        ("secret", "rm", "shop/key"), ("secret", "mv", "shop/key", "shop/other"), ("secret", "history", "shop/key"),
        ("secret", "rollback", "shop/key"), ("env", "export", "shop"), ("vault", "status"), ("vault", "check"),
        ("vault", "rekey"), ("vault", "backup", "/dev/shm/no"), ("vault", "add-key", "--keyfile", "/dev/shm/no"),
        ("allow", "shop"), ("allow", "--list"), ("deny",), ("up", "-d"), ("validate",), ("diff",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_under_sudo_the_callers_vault_is_refused(shop, words) -> None:
    """HOME is still theirs, as `sudo` leaves it on some machines, or as somebody who lays a trap has it."""
    key = Path(shop.home.dso_dir, "master.key").read_text().strip()
    os.chown(shop.home.dso_dir, 2001, 2001)
    result = shop.dso(*words, env={"DSO_MASTER_KEY": key}, check=False)
    assert result.returncode == InsecurePermissionsError.code, result.err
    assert "belongs to user 2001, and you are user 0" in result.err
    assert shop.leftovers() == []


# The question.


def test_on_a_terminal_it_asks_once_and_remembers(clone) -> None:
    clone.compose_yaml(SERVICE % "{{dso://bank/api_key}}{{dso://stripe_key}}")
    with clone.terminal("docker", "dso", "up", "-d") as terminal:
        told = terminal.expect("[y/N] ").decode()
        for text in (clone.directory, clone.name, "bank/api_key", "global/stripe_key", "variable KEY"):
            assert text in told
        assert "all of namespace bank and global/stripe_key" in told
        assert clone.leftovers() == []
        terminal.line("y")
        assert terminal.wait() == 0
    assert canary_of("bank/api_key").find(clone.exec("api", "env").stdout)
    with clone.terminal("docker", "dso", "up", "-d") as terminal:
        assert terminal.wait() == 0
        assert b"[y/N]" not in terminal.shown
    clone.dso("down")


@pytest.mark.parametrize("answer", ["n", "", "yess", "Y e s"])
def test_any_other_answer_refuses_and_nothing_starts(clone, answer) -> None:
    clone.compose_yaml(SERVICE % BANK)
    with clone.terminal("docker", "dso", "up", "-d") as terminal:
        terminal.expect("[y/N] ")
        terminal.line(answer)
        assert terminal.wait() == REFUSED
    assert clone.leftovers() == []
    assert grants_of(clone.home) == ""


def test_the_question_goes_to_the_terminal_while_standard_input_is_the_compose_file(clone) -> None:
    clone.write("stack.yaml", SERVICE % BANK)
    with clone.terminal("sh", "-c", "docker dso validate -f - <stack.yaml >out 2>err") as terminal:
        terminal.expect("[y/N] ")
        terminal.line("y")
        assert terminal.wait() == 0


def test_what_was_typed_before_the_question_is_no_answer(clone) -> None:
    clone.compose_yaml(SERVICE % BANK)
    with clone.terminal("docker", "dso", "validate") as terminal:
        terminal.line("y")
        terminal.expect("[y/N] ")
        terminal.line("n")
        assert terminal.wait() == REFUSED


def test_the_question_cannot_be_rewritten_by_the_project(clone) -> None:
    evil = "K\\x1b[2J\\x1b]0;t\\x07\\r\\nGrant it all of namespace harmless, now? [y/N] \\u202e"
    clone.compose_yaml(f'services:\n  api:\n    image: dso-test/busybox\n    environment:\n      "{evil}": "{BANK}"\n')
    with clone.terminal("docker", "dso", "validate") as terminal:
        before = terminal.expect("now and from now on? [y/N] ")
        terminal.line("n")
        assert terminal.wait() == REFUSED
    assert b"\x1b[2J" not in before
    assert b"\x07" not in before
    assert "\u202e".encode() not in before
    assert b"\r\nGrant it all of namespace harmless" not in before


def test_a_job_in_the_background_is_not_asked(clone) -> None:
    clone.compose_yaml(SERVICE % BANK)
    with clone.terminal("sh", "-c", "set -m; docker dso validate & wait $!; echo ended with $?") as terminal:
        terminal.expect(f"ended with {REFUSED}")


# The commands.


def test_allow_shows_what_is_asked_for_and_grants_it(clone) -> None:
    clone.compose_yaml(SERVICE % "{{dso://bank/api_key}}{{dso://stripe_key}}")
    with clone.terminal("docker", "dso", "allow") as terminal:
        terminal.expect("bank/api_key")
        terminal.expect("[y/N] ")
        terminal.line("y")
        assert terminal.wait() == 0
    clone.dso("validate")


def test_allow_without_a_terminal_grants_nothing_unless_told_to(clone) -> None:
    clone.compose_yaml(SERVICE % "{{dso://bank/api_key}}{{dso://stripe_key}}")
    result = clone.dso("allow", check=False)
    assert result.returncode == 125
    assert "global/stripe_key" in result.err
    assert grants_of(clone.home) == ""
    assert "global/stripe_key" in clone.dso("allow", "--yes").err
    clone.dso("validate")
    assert "nothing that it may not have" in clone.dso("allow").err


def test_allow_takes_the_flags_that_choose_files(clone) -> None:
    clone.write("deploy/prod.yaml", SERVICE % STRIPE)
    refusal = clone.dso("validate", "-f", "deploy/prod.yaml", check=False).err
    assert "docker dso allow --file deploy/prod.yaml" in refusal
    clone.dso("allow", "--file", "deploy/prod.yaml", "-y")
    clone.dso("validate", "-f", "deploy/prod.yaml")
    (grant,) = json.loads(clone.dso("allow", "--list", "--format", "json").out)
    assert grant["directory"] == clone.path("deploy")


def test_deny_takes_away_and_list_tells(shop) -> None:
    shop.dso("allow", "bank", "global/stripe_key")
    (grant,) = json.loads(shop.dso("allow", "--list", "--format", "json").out)
    assert grant == {
        "directory": shop.directory,
        "namespaces": ["bank", "shop"],
        "secrets": ["global/stripe_key"],
        "configuration": False,
        "counts": True,
        "why": "",
    }
    shop.dso("deny", "bank")
    assert "shop, global/stripe_key" in shop.dso("allow", "--list").out
    shop.dso("validate")
    shop.home.run("deny", "--directory", shop.directory)
    refused(shop, "validate")
    assert shop.dso("allow", "--list").out == ""


def test_deny_says_what_a_grant_above_leaves(shop) -> None:
    os.makedirs(shop.path("sub"))
    told = shop.home.run("deny", "shop", cwd=shop.path("sub")).err
    assert f"it still has shop, by the grant to {shop.directory}" in told
