"""What is read out of Compose's model."""

import pytest

from dso.compose.model import Model, as_written
from dso.compose.references import collect
from dso.errors import ReferencePlaceError


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/srv/shop/dsofile:/tls/key", "dsofile://tls/key"),
        ("/srv/shop/dsofile:/tls/key#pem?version=2", "dsofile://tls/key#pem?version=2"),
        ("/srv/shop/dso:/tls/key", "dso://tls/key"),
        ("/srv/{{dsofile:/tls/key}}.pem", "/srv/{{dsofile://tls/key}}.pem"),
        ("dsofile://tls/key", "dsofile://tls/key"),
        ("/srv/shop/key.pem", "/srv/shop/key.pem"),
    ],
)
def test_reference_that_became_a_path_is_read_as_written(path, written):
    assert as_written(path) == written


def test_only_paths_are_read_so():
    command = ["run", "-v", "/var/lib/dso:/data"]
    assert list(Model({"name": "shop", "services": {"api": {"command": command}}}).strings()) == []


@pytest.mark.parametrize(
    "service",
    [
        {"build": {"context": "/srv/shop/dsofile:/a/b"}},
        {"volumes": [{"type": "bind", "source": "/srv/shop/dso:/a/b", "target": "/x"}]},
    ],
)
def test_reference_that_became_a_path_where_none_is_served_is_refused(service):
    with pytest.raises(ReferencePlaceError, match="service api"):
        collect(Model({"name": "shop", "services": {"api": service}}))


def test_top_level_file_is_granted():
    found = collect(
        Model(
            {
                "name": "shop",
                "services": {"api": {"secrets": [{"source": "key"}]}},
                "secrets": {"key": {"name": "shop_key", "file": "/srv/shop/dsofile:/tls/key"}},
            }
        )
    )
    assert str(found[0].files[0].template.whole) == "dsofile://tls/key"
