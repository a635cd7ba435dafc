"""From a model to what each service gets, and what differs from what runs. Values are never in labels."""

import json

import pytest

from dso import paths
from dso.cli.changes import compare
from dso.cli.cmd_inspect import describe
from dso.cli.dry_run import planned
from dso.cli.stack import MAX_VARIABLE_BYTES, resolve_stack
from dso.compose.model import Model
from dso.errors import UnsuitableValueError
from dso.secret import MASK, FoundSecret, SecretValue, mac

KEY = b"k" * 32


class Values:
    """A resolver over a dictionary of paths. A mock of LocalResolver."""

    def __init__(self, **values):
        self.values = {name.replace("__", "/"): value for name, value in values.items()}

    def resolve(self, requests, in_files=()):
        values = {reference: SecretValue(self.values[reference.path]) for reference in requests}
        return {reference: FoundSecret(value, mac(KEY, value, reference.path)) for reference, value in values.items()}


def stack_of(services, resolver, **top_level):
    model = Model({"name": "shop", "services": services, **top_level})
    return resolve_stack(model, resolver)


SERVICES = {
    "api": {"environment": {"URL": "x:{{dso://a/b}}@", "F": "dsofile://a/f", "PLAIN": "1"}},
    "db": {"environment": {"PLAIN": "2"}},
}


def labels(stack, service="api"):
    (found,) = [each.labels for each in stack.services if each.secrets.service == service]
    return {"com.docker.compose.service": service, **found}


def test_service_gets_values_paths_and_files():
    stack = stack_of(SERVICES, Values(a__b=b"pw", a__f=b"\0binary"))
    (api,) = stack.services
    assert {name: value.reveal() for name, value in api.environment.items()} == {
        "URL": b"x:pw@",
        "F": b"/run/secrets/dso/a.f",
    }
    volumes = {volume.service: volume.files for volume in stack.volumes()}
    assert [(file.name, file.value.reveal(), file.mode) for file in volumes["api"]] == [("a.f", b"\0binary", 0o444)]
    assert volumes["db"] == ()
    assert stack.environment_secrets() == {"api": ["URL"]}


def test_manifest_is_written_as_ever_so_that_an_upgrade_re_creates_no_container():
    """Compose compares labels as texts: the order of their keys counts."""
    resolver = Values(a__b=b"pw", a__f=b"file")
    services = {"api": {"environment": {"Z": "dsofile://a/f", "A": "\u00fc {{dso://a/b}}", "B": "dso://a/b"}}}
    text = labels(stack_of(services, resolver))[paths.LABEL_MANIFEST]
    assert text == json.dumps(json.loads(text), separators=(",", ":"), sort_keys=True)
    assert list(json.loads(text)["environment"]) == ["A", "B", "Z"]


def test_labels_and_plan_name_references_and_never_values():
    stack = stack_of(SERVICES, Values(a__b=b"canary-value", a__f=b"canary-file"))
    shown = json.dumps([labels(stack), planned(stack)])
    assert "canary" not in shown
    assert "dsofile://a/f" in shown
    assert json.loads(labels(stack)[paths.LABEL_MANIFEST])["files"]["/run/secrets/dso/a.f"][0] == "dsofile://a/f"


def test_digest_changes_with_a_value_and_only_then():
    first = stack_of(SERVICES, Values(a__b=b"1", a__f=b"2"))
    assert labels(first) == labels(stack_of(SERVICES, Values(a__b=b"1", a__f=b"2")))
    assert (
        labels(first)[paths.LABEL_DIGEST]
        != labels(stack_of(SERVICES, Values(a__b=b"1", a__f=b"3")))[paths.LABEL_DIGEST]
    )


@pytest.mark.parametrize("value", [b"a\0b", b"\xff", b"x" * (MAX_VARIABLE_BYTES - len("A") - 1)])
def test_values_no_variable_can_hold_are_refused_and_dsofile_proposed(value):
    with pytest.raises(UnsuitableValueError) as caught:
        stack_of({"api": {"environment": {"A": "dso://a/b"}}}, Values(a__b=value))
    assert "service api, variable A" in caught.value.message
    assert "dsofile://" in caught.value.hint


def test_largest_variable_is_accepted():
    value = b"x" * (MAX_VARIABLE_BYTES - len("A=") - 1)
    (api,) = stack_of({"api": {"environment": {"A": "dso://a/b"}}}, Values(a__b=value)).services
    assert len(api.environment["A"]) == len(value)


def test_diff_names_what_changed():
    before = stack_of(SERVICES, Values(a__b=b"1", a__f=b"2"))
    after = stack_of(SERVICES, Values(a__b=b"9", a__f=b"2"))
    (change,) = compare(after, [labels(before)])
    assert change == ("api", "re-create", ["URL"], [])
    assert compare(after, [labels(after)]) == []


def test_diff_names_services_to_create_and_secrets_that_went_away():
    stack = stack_of(SERVICES, Values(a__b=b"1", a__f=b"2"))
    assert [(change.service, change.change) for change in compare(stack, [])] == [("api", "create")]
    bare = stack_of({"api": {"environment": {"URL": "plain"}}}, Values())
    (change,) = compare(bare, [labels(stack)])
    assert change == ("api", "re-create", ["F", "URL"], ["/run/secrets/dso/a.f"])


def test_inspect_masks_what_came_from_a_secret_and_shows_its_reference():
    stack = stack_of(SERVICES, Values(a__b=b"canary", a__f=b"canary"))
    report = describe(
        {
            "Name": "/shop-api-1",
            "Config": {"Env": ["URL=x:canary@", "F=/run/secrets/dso/a.f", "PLAIN=1"], "Labels": labels(stack)},
            "Mounts": [{"Type": "volume", "Name": "shop_dso_api", "Destination": "/run/secrets/dso"}],
        }
    )
    assert "canary" not in json.dumps(report)
    assert {entry["name"]: entry["value"] for entry in report["environment"]} == {
        "URL": MASK,
        "F": "/run/secrets/dso/a.f",
        "PLAIN": "1",
    }
    assert {"type": "file", "target": "/run/secrets/dso/a.f", "source": MASK, "reference": "dsofile://a/f"} in report[
        "mounts"
    ]
