"""Where references are found in a model, and where they are refused."""

import pytest

from dso.compose.model import Model
from dso.compose.references import collect, container_path
from dso.errors import ReferencePlaceError, ReferenceSyntaxError
from dso.secret import SecretRef


def model(services, only=None, **top_level):
    return Model({"name": "shop", "services": services, **top_level}, only)


def collect_one(service, **top_level):
    found = collect(model({"api": service}, **top_level))
    assert len(found) == 1
    return found[0]


def test_environment_variable_with_file_reference_becomes_a_file():
    secrets = collect_one({"environment": {"P": "dsofile://shop/db_password"}, "user": "1000:1001"})
    (file,) = secrets.files
    assert (file.name, file.target, file.uid, file.gid, file.mode) == ("shop.db_password", None, 1000, 1001, 0o444)


def test_container_path_is_predictable():
    assert container_path(SecretRef.parse("dsofile://shop/db/pw")) == "/run/secrets/dso/shop.db.pw"
    assert container_path(SecretRef.parse("dsofile://shop/db#pw?version=2")) == "/run/secrets/dso/shop.db.pw@2"


@pytest.mark.parametrize("user", [None, "postgres", "postgres:postgres", ""])
def test_user_by_name_counts_as_root(user):
    secrets = collect_one({"environment": {"P": "dsofile://a/b"}, "user": user})
    assert (secrets.files[0].uid, secrets.files[0].gid) == (0, 0)


def test_doubled_dollars_of_config_are_read_as_one():
    secrets = collect_one({"environment": {"T": "a$$b {{dso://a/b}} $$$$"}})
    assert secrets.environment["T"].render(lambda _: b"V") == b"a$b V $$"


@pytest.mark.parametrize(("mode", "expected"), [(256, 0o400), ("0400", 0o400), ("0440", 0o440), (None, 0o444)])
def test_granted_secret_honours_the_long_syntax(mode, expected):
    grant = {"source": "pem", "target": "/etc/tls/key.pem", "uid": "7", "gid": "8", **({"mode": mode} if mode else {})}
    secrets = collect_one(
        {"secrets": [grant, {"source": "plain"}]},
        secrets={"pem": {"file": "dsofile://tls/pem"}, "plain": {"file": "./plain"}},
    )
    (file,) = secrets.files
    assert (file.target, file.uid, file.gid, file.mode) == ("/etc/tls/key.pem", 7, 8, expected)
    assert secrets.kept == {"secrets": [{"source": "plain"}]}


def test_granted_targets_default_as_in_compose():
    secrets = collect_one(
        {"secrets": [{"source": "a"}, {"source": "a", "target": "b"}], "configs": [{"source": "c"}]},
        secrets={"a": {"file": "dsofile://x/a"}},
        configs={"c": {"content": "pw={{dso://x/pw}}"}},
    )
    assert [file.target for file in secrets.files] == ["/run/secrets/a", "/run/secrets/b", "/c"]
    assert len({file.name for file in secrets.files}) == 3


def test_file_reference_inside_a_config_delivers_the_file_too():
    secrets = collect_one(
        {"configs": [{"source": "c"}]}, configs={"c": {"content": "key_file={{dsofile://x/key}} $$1"}}
    )
    assert [file.name for file in secrets.files] == ["~configs/c", "x.key"]
    assert list(secrets.file_requests()) == [SecretRef.parse("dsofile://x/key")]
    assert secrets.variable_requests() == {}


def test_two_references_that_would_be_one_file_are_refused():
    with pytest.raises(ReferenceSyntaxError, match="same file"):
        collect(model({"api": {"environment": {"A": "dsofile://a/b.c", "B": "dsofile://a.b/c"}}}))


def test_all_malformed_references_are_told_at_once_with_service_and_variable():
    with pytest.raises(ReferenceSyntaxError) as caught:
        collect(model({"api": {"environment": {"A": "dso:///x"}}, "db": {"environment": {"B": "x dso://a/b"}}}))
    assert "service api, variable A" in caught.value.message
    assert "service db, variable B" in caught.value.message
    assert "dso://[NAMESPACE/]PATH" in caught.value.hint


@pytest.mark.parametrize(
    ("service", "place"),
    [
        ({"labels": {"a": "dso://x/y"}}, "labels.a"),
        ({"command": ["sh", "-c", "echo dso://x/y"]}, "command.2"),
        ({"image": "dso://x/y"}, "image"),
        ({"build": {"args": {"A": "dsofile://x/y"}}}, "build.args.A"),
        ({"healthcheck": {"test": ["CMD", "dso://x/y"]}}, "healthcheck.test.1"),
        ({"volumes": [{"type": "bind", "source": "dso://x/y"}]}, "volumes.0.source"),
    ],
)
def test_reference_elsewhere_is_refused_and_the_place_named(service, place):
    with pytest.raises(ReferencePlaceError) as caught:
        collect(model({"api": service}))
    assert f"service api: {place}" in caught.value.message


def test_reference_in_other_top_level_places_is_refused():
    with pytest.raises(ReferencePlaceError, match=r"networks\.n\.driver"):
        collect(model({}, networks={"n": {"driver": "dso://a/b"}}))
    with pytest.raises(ReferencePlaceError, match=r"secrets\.s\.file"):
        collect(model({}, secrets={"s": {"file": "dso://a/b"}}))
    with pytest.raises(ReferencePlaceError, match=r"build\.secrets"):
        collect(model({"api": {"build": {"secrets": [{"source": "s"}]}}}, secrets={"s": {"file": "dsofile://a/b"}}))


def test_extension_fields_are_not_looked_at():
    assert collect(model({"api": {"x-env": {"A": "dso://a/b"}}}, **{"x-common": {"K": "dso://a/b"}})) == []


def test_services_outside_the_command_are_not_looked_at():
    services = {"api": {"environment": {"A": "dso://a/b"}}, "db": {"labels": {"x": "dso://a/b"}}}
    assert [found.service for found in collect(model(services, only=("api",)))] == ["api"]


@pytest.mark.parametrize("kind", ["secrets", "configs"])
def test_reference_in_the_variable_of_a_secret_or_config_is_refused(kind):
    stack = model({"api": {kind: [{"source": "x"}]}}, **{kind: {"x": {"environment": "DBPW"}}})
    with pytest.raises(ReferencePlaceError, match="DBPW holds a reference"):
        collect(stack, lambda: {"DBPW": "dso://shop/pw"})
    assert collect(stack, lambda: {"DBPW": "plain"}) == []


def test_owner_that_is_no_number_is_refused():
    grant = {"source": "x", "uid": "app"}
    with pytest.raises(ReferenceSyntaxError, match="uid 'app' is no number"):
        collect(model({"api": {"secrets": [grant]}}, secrets={"x": {"file": "dsofile://a/b"}}))
