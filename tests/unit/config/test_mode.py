"""Mode detection: six priorities, the conflict warning, the guided error."""

import pytest

from dso import paths
from dso.config.mode import detect_mode
from dso.errors import NotConfiguredError, UsageError


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")


VAULT = "/home/ann/.dso/vault.enc"
EVERYTHING = {paths.SYSTEM_CONFIG, paths.PROJECT_CONFIG, VAULT}


def detect(flag=None, config=None, environment=None, present=EVERYTHING):
    return detect_mode(flag, config, environment or {}, present.__contains__)


def test_flag_beats_everything():
    assert detect("local", environment={"DSO_MODE": "cloud"}).name == "local"
    assert detect("cloud", present={VAULT}).name == "cloud"
    assert detect("local").reason == "--mode"


def test_explicit_configuration_means_cloud_and_beats_the_environment():
    mode = detect(config="x.yaml", environment={"DSO_MODE": "local"})
    assert (mode.name, mode.config, mode.reason) == ("cloud", "x.yaml", "-c x.yaml")


def test_dso_mode_beats_dso_force_mode_which_beats_files():
    both = {"DSO_MODE": "local", "DSO_FORCE_MODE": "cloud"}
    assert (detect(environment=both).name, detect(environment=both).reason) == ("local", "DSO_MODE")
    forced = detect(environment={"DSO_FORCE_MODE": "local"})
    assert (forced.name, forced.reason) == ("local", "DSO_FORCE_MODE")
    assert detect(environment={"DSO_MODE": "", "DSO_FORCE_MODE": "local"}).reason == "DSO_FORCE_MODE"


def test_system_configuration_beats_the_projects_which_beats_the_vault():
    assert detect().config == paths.SYSTEM_CONFIG
    assert detect(present={paths.PROJECT_CONFIG, VAULT}).config == paths.PROJECT_CONFIG
    assert detect(present={VAULT}).announcement() == "Running in LOCAL mode (auto-detected: ~/.dso/vault.enc)"


def test_vault_beside_cloud_configuration_is_warned_about():
    assert "cloud wins" in detect().warning
    assert detect(present={paths.SYSTEM_CONFIG}).warning == ""
    assert detect("cloud").warning == ""


def test_nothing_found_is_exit_3_with_both_ways_to_set_up():
    with pytest.raises(NotConfiguredError) as caught:
        detect(present=set())
    assert caught.value.code == 3
    assert all(path in caught.value.message for path in ("/etc/dso/dso.yaml", "./dso.yaml", "~/.dso/vault.enc"))
    assert "docker dso init" in caught.value.hint
    assert "sudo docker dso system setup" in caught.value.hint


def test_contradictions_and_unknown_modes_are_usage_errors():
    with pytest.raises(UsageError):
        detect("local", config="x.yaml")
    with pytest.raises(UsageError):
        detect(environment={"DSO_MODE": "clowd"})


PROJECT_ONLY = {paths.PROJECT_CONFIG, VAULT}


@pytest.mark.parametrize(
    ("flag", "config", "environment", "found"),
    [
        (None, None, {}, True),
        ("cloud", None, {}, True),
        (None, None, {"DSO_MODE": "cloud"}, True),
        (None, None, {"DSO_FORCE_MODE": "cloud"}, True),
        (None, paths.PROJECT_CONFIG, {}, False),
        ("cloud", paths.PROJECT_CONFIG, {}, False),
        ("local", None, {}, False),
    ],
)
def test_a_project_s_configuration_is_the_user_s_word_only_if_they_name_it(flag, config, environment, found):
    assert detect(flag, config, environment, PROJECT_ONLY).found is found
    assert not detect(flag, config, environment, {*PROJECT_ONLY, paths.SYSTEM_CONFIG}).found
