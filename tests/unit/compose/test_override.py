"""The override file says exactly what it should, in YAML every reader reads alike."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from dso.compose.override import ServiceOverride, build_override, quote


class Loader(yaml.SafeLoader):
    """Knows Compose's own tags."""


for tag in ("!override", "!reset"):
    Loader.add_constructor(
        tag,
        lambda loader, node: (
            node.tag,
            loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None,
        ),
    )


def load(data):
    return yaml.load(data.decode(), Loader)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_quoted_text_reads_back_to_the_character(text):
    assert yaml.safe_load(quote(text)) == text
    assert quote(text).isascii()


def test_override_holds_only_what_changes():
    override = build_override(
        [
            ServiceOverride(
                "api",
                {"KEY": 'a$b"\n'},
                {"io.dso.digest": "00"},
                "shop_dso_api",
                {"/etc/key": "~secrets/pem"},
                True,
                {"secrets": [{"source": "plain", "mode": 256}], "configs": []},
            )
        ]
    )
    api = load(override)["services"]["api"]
    assert api["environment"] == {"KEY": 'a$$b"\n'}
    assert api["secrets"] == ("!override", [{"source": "plain", "mode": 256}])
    assert api["configs"] == ("!override", [])
    assert [mount["target"] for mount in api["volumes"]] == ["/run/secrets/dso", "/etc/key"]
    assert all(mount["read_only"] is True and mount["volume"]["nocopy"] is True for mount in api["volumes"])
    assert api["volumes"][1]["volume"]["subpath"] == "~secrets/pem"
    assert set(load(override)) == {"services", "volumes"}
    assert load(override)["volumes"] == {"shop_dso_api": {"external": True, "name": "shop_dso_api"}}


def test_service_with_variables_only_gets_no_volume():
    document = load(build_override([ServiceOverride("api", {"A": "1"}, {}, None, {}, False, {})]))
    assert document == {"services": {"api": {"environment": {"A": "1"}}}}
