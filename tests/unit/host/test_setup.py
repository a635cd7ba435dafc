"""What setup has to do on a machine: its plan, and what it does to the files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.errors import AgentUnavailableError, ConfigError, ServiceError, SetupFailedError, SetupUnfinishedError
from dso.host import setup_steps
from dso.host.installation import HOME
from dso.host.setup import Found, Plan, Wanted, examine, is_complete, open_questions, plan, unset_variables
from dso.host.transaction import perform
from dso.host.units import UNITS
from dso.version import VERSION

if TYPE_CHECKING:
    from tests.support.host import FakeHost

CONFIG, ENVIRONMENT = "/etc/dso/dso.yaml", "/etc/dso/agent.env"
VALUES = {"VAULT_ADDR": "https://vault.example.com:8200", "VAULT_TOKEN": "hvs.x"}
VAULT = Wanted(["vault"], VALUES)


def units(active: str = "inactive", enabled: str = "disabled", load: str = "loaded") -> str:
    shown = "Id={}\nLoadState={}\nActiveState={}\nUnitFileState={}\n"
    return "\n".join(shown.format(name, load, active, enabled) for name in UNITS)


@pytest.fixture
def installed(host: FakeHost) -> FakeHost:
    """The agent, the plugin for Vault and the units are there, nothing is set up."""
    for path in ("/usr/local/bin/dso-agent", f"{HOME}/plugins/dso-provider-vault"):
        host.write(path, "", 0o755)
        host.says[f"{path} --version"] = (f"x {VERSION}", 0)
    host.says["systemctl show"] = (units(), 0)
    return host


def planned(host: FakeHost, wanted: Wanted) -> Plan:
    return plan(host, examine(host), wanted, lambda: None)


def titles(found: Plan) -> list[str]:
    return [step.title.partition(" (")[0].partition(",")[0] for step in found.steps]


def test_without_systemd_it_says_so(installed: FakeHost) -> None:
    os.rmdir(installed.path("/run/systemd/system"))
    with pytest.raises(ServiceError, match="systemd"):
        examine(installed)


def test_the_plan_for_a_machine_where_nothing_is_set_up(installed: FakeHost) -> None:
    found = planned(installed, VAULT._replace(member="ann"))
    assert titles(found) == [
        "create the group dso",
        "add ann to the group dso",
        "create /etc/dso",
        "write /etc/dso/dso.yaml",
        "write /etc/dso/agent.env",
        "enable and start dso-agent.socket",
        "wait until the agent answers",
    ]
    assert not found.unset
    assert not is_complete(found)
    assert not any(call.startswith(("groupadd", "systemctl start", "systemctl enable")) for call in installed.calls)
    assert not installed.exists("/etc/dso")


def test_users_that_plugins_run_as_are_made_where_they_are_missing_and_taken_back(installed: FakeHost) -> None:
    for name in ("dso-aws", "dso-plugin"):
        installed.says[f"getent passwd {name}"] = ("", 2)
    found = planned(installed, VAULT)
    assert found.steps[0].title == "create the users that plugins run as: dso-aws, dso-plugin"
    installed.says["systemctl enable"] = ("no", 1)
    with pytest.raises(SetupFailedError):
        perform([*found.steps], lambda _title: None)
    made = [call for call in installed.calls if call.startswith("useradd ")]
    assert [call.split()[-3:] for call in made] == [["--uid", "60902", "dso-aws"], ["--uid", "60900", "dso-plugin"]]
    assert all("--system" in call and "/usr/sbin/nologin" in call for call in made)


def test_a_user_whose_number_is_taken_gets_another(installed: FakeHost) -> None:
    installed.says["getent passwd dso-aws"] = ("", 2)
    step = planned(installed, VAULT).steps[0]
    make = "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin"
    installed.says[f"{make} --uid"] = ("useradd: UID 60902 is not unique", 4)
    step.apply()
    assert installed.calls[-2:] == [f"{make} --uid 60902 dso-aws", f"{make} dso-aws"]
    installed.says[make] = ("useradd: cannot lock /etc/passwd", 1)
    with pytest.raises(ServiceError, match="cannot lock"):
        step.apply()


def test_a_user_that_was_made_is_removed_when_a_later_step_fails(installed: FakeHost) -> None:
    installed.says["getent passwd dso-aws"] = ("", 2)
    step = planned(installed, VAULT).steps[0]
    step.apply()
    del installed.says["getent passwd dso-aws"]
    assert step.undo is not None
    step.undo()
    assert [call for call in installed.calls if call.startswith("userdel")] == ["userdel dso-aws"]


def test_what_the_plan_writes(installed: FakeHost) -> None:
    before = os.umask(0o077)
    try:
        perform(planned(installed, VAULT).steps, lambda _title: None)
    finally:
        os.umask(before)
    modes = [os.stat(installed.path(path)).st_mode & 0o7777 for path in ("/etc/dso", CONFIG, ENVIRONMENT)]
    assert modes == [0o755, 0o644, 0o600]
    assert b"VAULT_TOKEN=hvs.x\n" in (installed.read(ENVIRONMENT) or b"")
    assert b"hvs.x" not in (installed.read(CONFIG) or b"")
    assert "groupadd --system dso" in installed.calls


def test_nothing_is_left_to_do_where_all_is_right(installed: FakeHost) -> None:
    perform(planned(installed, VAULT).steps, lambda _title: None)
    installed.says["getent group dso"] = ("dso:x:7:ann,eve\n", 0)
    installed.says["systemctl show"] = (units("active", "enabled"), 0)
    again = planned(installed, Wanted(["vault", "aws"], {}, "ann"))
    assert titles(again) == ["wait until the agent answers"]
    assert is_complete(again)


@pytest.mark.parametrize("failing", ["groupadd", "gpasswd -a", "systemctl enable", "systemctl start dso-agent.service"])
def test_a_failure_at_any_step_leaves_no_file(installed: FakeHost, failing: str) -> None:
    installed.says[failing] = ("no", 1)
    with pytest.raises(SetupFailedError, match="no"):
        perform(planned(installed, VAULT._replace(member="ann")).steps, lambda _title: None)
    assert not installed.exists("/etc/dso")


def test_an_agent_that_does_not_answer_fails_the_setup(installed: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_steps, "HEALTHY_WITHIN", 0.0)
    asked = []

    def answers() -> None:
        asked.append(1)
        raise AgentUnavailableError("nobody is there")

    found = plan(installed, examine(installed), VAULT, answers)
    with pytest.raises(SetupFailedError, match="nobody is there"):
        perform(found.steps, lambda _title: None)
    assert asked
    assert not installed.exists("/etc/dso")


def test_a_file_that_somebody_has_changed_meanwhile_is_not_removed(installed: FakeHost) -> None:
    step = setup_steps.file(installed, CONFIG, "ours", 0o644, "")
    installed.write(CONFIG, "theirs")
    with pytest.raises(SetupFailedError):
        perform([step], lambda _title: None)
    assert installed.read(CONFIG) == b"theirs"


def test_missing_values_leave_the_agent_alone(installed: FakeHost) -> None:
    found = planned(installed, Wanted(["vault"], {"VAULT_ADDR": VALUES["VAULT_ADDR"]}))
    assert found.unset == ["VAULT_TOKEN"]
    assert titles(found)[-1] == "write /etc/dso/agent.env"
    perform(found.steps, lambda _title: None)
    with pytest.raises(SetupUnfinishedError, match=r"VAULT_TOKEN in .* has no value"):
        examine(installed)
    installed.write(ENVIRONMENT, "VAULT_ADDR=https://x\nVAULT_TOKEN='a b'\n", 0o600)
    assert titles(planned(installed, Wanted()))[-2:] == [
        "enable and start dso-agent.socket",
        "wait until the agent answers",
    ]


def test_a_value_that_does_not_fit_is_told_before_anything_is_changed(installed: FakeHost) -> None:
    with pytest.raises(ConfigError, match="address"):
        planned(installed, Wanted(["vault"], {**VALUES, "VAULT_ADDR": "vault.example.com"}))
    assert not installed.exists("/etc/dso")


def test_an_existing_configuration_is_kept_and_has_to_be_right(installed: FakeHost) -> None:
    installed.write(CONFIG, "version: 1\nproviders: {v: {type: vault, adress: x}}\n")
    with pytest.raises(ConfigError, match="adress"):
        examine(installed)
    installed.write(CONFIG, "version: 1\nproviders: {acme: {type: acme}}\n")
    installed.write(f"{HOME}/plugins/dso-provider-acme", "", 0o755)
    found = planned(installed, Wanted(["vault"], VALUES))
    assert not found.texts
    assert f"{HOME}/plugins/dso-provider-acme --version" not in installed.calls


def test_an_environment_file_that_others_can_read_is_closed_and_opened_again_on_failure(installed: FakeHost) -> None:
    installed.write(ENVIRONMENT, "VAULT_ADDR=https://x\nVAULT_TOKEN=t\n", 0o640)
    steps = planned(installed, VAULT).steps
    installed.says["systemctl enable"] = ("no", 1)
    with pytest.raises(SetupFailedError):
        perform(steps, lambda _title: None)
    assert os.stat(installed.path(ENVIRONMENT)).st_mode & 0o7777 == 0o640
    del installed.says["systemctl enable"]
    perform(steps, lambda _title: None)
    assert os.stat(installed.path(ENVIRONMENT)).st_mode & 0o7777 == 0o600


def test_a_link_to_an_environment_file_that_is_closed_is_left_alone(installed: FakeHost) -> None:
    installed.write("/srv/agent.env", "VAULT_ADDR=https://x\nVAULT_TOKEN=t\n", 0o600)
    os.makedirs(installed.path(os.path.dirname(ENVIRONMENT)))
    os.symlink(installed.path("/srv/agent.env"), installed.path(ENVIRONMENT))
    assert not [title for title in titles(planned(installed, VAULT)) if ENVIRONMENT in title]


@pytest.mark.parametrize(
    ("path", "mode", "said"),
    [
        ("/usr/local/bin/dso-agent", None, "dso-agent is missing"),
        (f"{HOME}/plugins/dso-provider-vault", None, "dso-provider-vault is missing"),
        (f"{HOME}/plugins/dso-provider-vault", 0o777, "can be changed by other users"),
    ],
)
def test_programs_that_are_not_right_are_told_before_anything_is_changed(
    installed: FakeHost, path: str, mode: int | None, said: str
) -> None:
    os.unlink(installed.path(path)) if mode is None else os.chmod(installed.path(path), mode)
    with pytest.raises(SetupFailedError, match=said):
        planned(installed, VAULT)


@pytest.mark.parametrize("path", ["/etc/dso", CONFIG])
def test_a_configuration_that_others_may_change_is_not_used(installed: FakeHost, path: str) -> None:
    installed.write(CONFIG, "version: 1\nproviders: {v: {type: acme}}\n")
    os.chmod(installed.path(path), 0o777)
    with pytest.raises(SetupFailedError, match=f"{path} can be changed by other users"):
        planned(installed, VAULT)


@pytest.mark.parametrize(("load", "said"), [("not-found", "does not know dso-agent.socket"), ("masked", "unmask")])
def test_units_that_cannot_be_started_are_told_before_anything_is_changed(
    installed: FakeHost, load: str, said: str
) -> None:
    installed.says["systemctl show"] = (units(load=load), 0)
    with pytest.raises(SetupFailedError, match=said):
        planned(installed, VAULT)


# --from


@pytest.fixture
def with_installer(installed: FakeHost) -> FakeHost:
    installed.write(f"{HOME}/manifest", f"version {VERSION}\nagent yes\nproviders vault\n")
    installed.write(f"{HOME}/install.sh", "", 0o755)
    installed.write("/root/release.tar.gz")
    return installed


INSTALL = f"sh {HOME}/install.sh --offline /root/release.tar.gz --version {VERSION}"


def test_the_installed_installer_installs_what_is_missing_of_this_version(with_installer: FakeHost) -> None:
    found = planned(with_installer, Wanted(["aws"], {"AWS_REGION": "us-east-1"}, "", "/root/release.tar.gz"))
    assert titles(found)[:2] == ["install what is missing from /root/release.tar.gz", "verify owners"]
    with_installer.calls.clear()
    found.steps[0].apply()
    assert with_installer.calls == [f"{INSTALL} --providers aws,vault"]


def test_what_was_installed_is_taken_back_when_a_later_step_fails(with_installer: FakeHost) -> None:
    step = planned(with_installer, Wanted(["aws"], {}, "", "/root/release.tar.gz")).steps[0]
    assert step.undo is not None
    with_installer.calls.clear()
    step.undo()
    assert with_installer.calls == [], "the installer had changed nothing"
    with_installer.write(f"{HOME}/manifest", f"version {VERSION}\nagent yes\nproviders aws vault\n")
    step.undo()
    assert with_installer.calls == [f"{INSTALL} --providers vault"]


def test_an_agent_that_was_not_installed_before_is_taken_away_again(with_installer: FakeHost) -> None:
    with_installer.write(f"{HOME}/manifest", f"version {VERSION}\nagent \nproviders \n")
    step = planned(with_installer, Wanted(["vault"], VALUES, "", "/root/release.tar.gz")).steps[0]
    with_installer.write(f"{HOME}/manifest", f"version {VERSION}\nagent yes\nproviders vault\n")
    assert step.undo is not None
    with_installer.calls.clear()
    step.undo()
    assert with_installer.calls == [f"{INSTALL} --no-agent"]


@pytest.mark.parametrize("spoil", ["no file", "no installer", "changed by others"])
def test_a_release_that_cannot_be_verified_is_refused(with_installer: FakeHost, spoil: str) -> None:
    if spoil == "no file":
        os.unlink(with_installer.path("/root/release.tar.gz"))
    elif spoil == "no installer":
        os.unlink(with_installer.path(f"{HOME}/install.sh"))
    else:
        os.chmod(with_installer.path(f"{HOME}/install.sh"), 0o777)
    with_installer.calls.clear()
    with pytest.raises(SetupFailedError):
        planned(with_installer, Wanted(["vault"], VALUES, "", "/root/release.tar.gz"))
    assert not any(call.startswith("sh ") for call in with_installer.calls)


# Small parts


def test_variables_without_a_value_are_those_without_a_default_outside_of_comments() -> None:
    text = "# ${C}\na: ${A}\nb: {x: ${B:-1}, y: ${D}, z: ${A}}\nc: ${E?no}\nd: ${\ne: $F\n"
    assert unset_variables(text, {"D": ""}) == ["A"]


def test_questions_are_asked_only_for_what_will_be_written(installed: FakeHost) -> None:
    nothing: Found = examine(installed)
    asked = open_questions(nothing, Wanted(["vault", "aws"], {"VAULT_ADDR": "x"}))
    assert [one.name for one in asked] == ["VAULT_TOKEN", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert [one.name for one in asked if one.is_secret] == ["VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY"]
    assert open_questions(nothing._replace(has_environment=True), Wanted(["vault"])) == []


def test_a_manifest_that_others_could_have_written_is_not_built_upon(installed: FakeHost) -> None:
    installed.write(f"{HOME}/manifest", f"version {VERSION}\nagent yes\nproviders vault\n")
    installed.owners[f"{HOME}/manifest"] = 1000
    with pytest.raises(SetupFailedError, match=f"{HOME}/manifest belongs to user 1000, not to root"):
        planned(installed, VAULT)


def test_a_release_that_is_older_than_what_is_installed_is_not_installed(installed: FakeHost) -> None:
    installed.write("/srv/release.tar.gz")
    installed.write(f"{HOME}/install.sh")
    installed.write(f"{HOME}/manifest", "version 99.0.0\nagent yes\nproviders vault\n")
    with pytest.raises(SetupFailedError, match=f"DSO 99.0.0 is installed.* older agent, {VERSION}") as caught:
        planned(installed, VAULT._replace(source="/srv/release.tar.gz"))
    assert f"sudo sh {HOME}/install.sh --offline /srv/release.tar.gz --version {VERSION}" in (caught.value.hint or "")
    for former in ("0.0.1", VERSION, ""):
        installed.write(f"{HOME}/manifest", f"version {former or VERSION}\nagent yes\nproviders vault\n")
        assert "install what is missing" in titles(planned(installed, VAULT._replace(source="/srv/release.tar.gz")))[0]
