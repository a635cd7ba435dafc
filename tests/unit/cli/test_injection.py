"""Native injection: which service gets what from dso.yaml without asking for it."""

from __future__ import annotations

from typing import Any

import pytest

from dso.cli.injection import inject
from dso.compose.model import Model
from dso.compose.references import ServiceSecrets, collect
from dso.errors import ConfigError
from dso.protocol.state import SecretInfo

DB = SecretInfo("prod/db", "vault", "prod/db", mappings=(("password", "DB_PASSWORD"), ("user", "DB_USER")))
TLS = SecretInfo("tls", "vault", "tls", kind="file", services=("api",))


def injected(
    services: dict[str, Any], *entries: SecretInfo, only: list[str] | None = None
) -> dict[str, ServiceSecrets]:
    model = Model({"name": "shop", "services": services}, only)
    return {secrets.service: secrets for secrets in inject(model, collect(model), entries)}


def variables(secrets: ServiceSecrets) -> dict[str, str]:
    return {name: template.text for name, template in secrets.environment.items()}


def files(secrets: ServiceSecrets) -> list[tuple[str, str | None, int, int, int]]:
    return [(file.name, file.target, file.uid, file.gid, file.mode) for file in secrets.files]


def test_without_targets_services_that_declare_the_variable_get_it() -> None:
    found = injected(
        {
            "api": {"environment": {"DB_PASSWORD": None, "OTHER": "1"}},
            "web": {"environment": {"OTHER": "1"}},
            "cron": {},
        },
        DB,
    )
    assert variables(found.pop("api")) == {"DB_PASSWORD": "dso://prod/db#password"}
    assert found == {}


def test_named_services_get_it_even_without_any_environment() -> None:
    found = injected({"api": {"environment": None}, "worker": {}, "web": {}}, DB._replace(services=("api", "worker")))
    expected = {"DB_PASSWORD": "dso://prod/db#password", "DB_USER": "dso://prod/db#user"}
    assert {name: variables(secrets) for name, secrets in found.items()} == {"api": expected, "worker": expected}


def test_labels_have_to_match_all_of_them() -> None:
    services = {
        "both": {"labels": {"tier": "backend", "zone": "a$$b"}},
        "one": {"labels": {"tier": "backend"}},
        "other": {"labels": {"tier": "frontend", "zone": "a$$b"}},
    }
    assert list(injected(services, DB._replace(labels=(("tier", "backend"), ("zone", "a$b"))))) == ["both"]


def test_named_services_and_labelled_ones_both_get_it() -> None:
    entry = DB._replace(services=("api",), labels=(("tier", "x"),))
    assert set(injected({"api": {}, "db": {"labels": {"tier": "x"}}, "web": {}}, entry)) == {"api", "db"}


def test_own_reference_wins_and_a_literal_is_replaced() -> None:
    found = injected({"api": {"environment": {"DB_PASSWORD": "dso://mine", "DB_USER": "literal"}}}, DB)
    assert variables(found["api"]) == {"DB_PASSWORD": "dso://mine", "DB_USER": "dso://prod/db#user"}


def test_services_this_command_does_not_start_get_nothing() -> None:
    assert list(injected({"api": {}, "db": {}}, DB._replace(services=("api", "db")), only=["db"])) == ["db"]


def test_whole_secret_becomes_one_file_under_run_secrets_dso() -> None:
    found = injected({"api": {"user": "1000:1001"}}, TLS._replace(name="prod/tls"))
    assert files(found["api"]) == [("prod.tls", None, 1000, 1001, 0o444)]
    assert variables(found["api"]) == {}
    assert found["api"].files[0].template.text == "dsofile://prod/tls"


def test_file_without_mappings_needs_targets() -> None:
    assert injected({"api": {"environment": {"X": "1"}}}, TLS._replace(services=())) == {}


def test_file_at_a_path_of_its_own_with_owner_and_mode() -> None:
    found = injected({"api": {"user": "1000"}}, TLS._replace(file_path="/etc/tls/key.pem", uid=7, mode=0o400))
    assert files(found["api"]) == [("~injected/tls", "/etc/tls/key.pem", 7, 0, 0o400)]


def test_mapped_fields_become_files_and_the_variables_their_paths() -> None:
    entry = TLS._replace(mappings=(("key", "TLS_KEY"), ("crt", "TLS_CRT")))
    secrets = injected({"api": {}}, entry)["api"]
    assert [file.name for file in secrets.files] == ["tls.key", "tls.crt"]
    assert secrets.environment["TLS_KEY"].render(lambda _: b"") == b"/run/secrets/dso/tls.key"
    assert secrets.environment["TLS_CRT"].render(lambda _: b"") == b"/run/secrets/dso/tls.crt"


def test_mapped_field_at_a_path_sets_the_variable_to_it() -> None:
    entry = TLS._replace(mappings=(("key", "TLS_KEY"),), file_path="/etc/key")
    secrets = injected({"api": {}}, entry)["api"]
    assert secrets.environment["TLS_KEY"].render(lambda _: b"") == b"/etc/key"
    assert secrets.environment["TLS_KEY"].text == "dsofile://tls#key"
    assert secrets.variable_requests() == {}


def test_one_path_for_two_fields_is_refused() -> None:
    with pytest.raises(ConfigError, match="one file"):
        injected({"api": {}}, TLS._replace(mappings=(("a", "A"), ("b", "B")), file_path="/x"))


def test_own_reference_for_a_file_variable_wins_and_no_file_is_added() -> None:
    entry = TLS._replace(mappings=(("key", "TLS_KEY"),))
    secrets = injected({"api": {"environment": {"TLS_KEY": "dsofile://mine"}}}, entry)["api"]
    assert [file.name for file in secrets.files] == ["mine"]


def test_file_the_service_asks_for_itself_is_there_once() -> None:
    secrets = injected({"api": {"environment": {"F": "dsofile://tls"}}}, TLS)["api"]
    assert [file.name for file in secrets.files] == ["tls"]


def test_two_secrets_for_one_variable_are_refused_and_both_named() -> None:
    with pytest.raises(ConfigError) as caught:
        injected({"api": {"environment": {"DB_USER": ""}}}, DB, DB._replace(name="staging/db"))
    assert "service api: variable DB_USER" in caught.value.message
    assert "prod/db" in caught.value.message
    assert "staging/db" in caught.value.message


def test_two_secrets_for_one_path_are_refused() -> None:
    entry = TLS._replace(file_path="/etc/key")
    with pytest.raises(ConfigError, match="/etc/key"):
        injected({"api": {}}, entry, entry._replace(name="other"))


def test_grants_that_stay_composes_own_are_kept() -> None:
    model = Model(
        {
            "name": "shop",
            "services": {"api": {"secrets": [{"source": "x"}, {"source": "plain"}]}},
            "secrets": {"x": {"file": "dsofile://a/b"}, "plain": {"file": "/p"}},
        }
    )
    (secrets,) = inject(model, collect(model), [DB._replace(services=("api",))])
    assert secrets.kept == {"secrets": [{"source": "plain"}]}
    assert set(secrets.environment) == {"DB_PASSWORD", "DB_USER"}
