"""Paths that become another name in a backend."""

from __future__ import annotations

import pytest

from dso.protocol.codes import INVALID_REQUEST
from dso.protocol.provider import ProviderError
from dso.providers.renamed import Renamed


def test_a_name_belongs_to_the_path_that_took_it_first() -> None:
    renamed = Renamed("p", "CSMS")
    assert renamed.claim("a/b", "a-b")
    assert not renamed.claim("a/b", "a-b")
    with pytest.raises(ProviderError) as caught:
        renamed.claim("a-b", "a-b")
    assert caught.value.code == INVALID_REQUEST
    assert caught.value.message == (
        "p: a-b and a/b would both be the secret a-b of CSMS: use one of them everywhere (if nothing asks for a/b any "
        "more, restart the agent)"
    )


def test_paths_that_the_backend_does_not_tell_apart_are_one() -> None:
    renamed = Renamed("p", "Key Vault", str.lower)
    assert renamed.claim("A", "A")
    assert not renamed.claim("a", "a")
    assert renamed.claim("A/B", "A-B")
    with pytest.raises(ProviderError):
        renamed.claim("a-b", "a-b")
