"""What is remembered of an answer of Entra's, and how long is waited for a connection."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest

from dso.providers.azure_transport import Transport, _answered
from dso.providers.http_session import ProviderSession


def codes(body: Any) -> tuple[int, ...]:
    response = SimpleNamespace(status_code=401, content=json.dumps(body).encode(), headers={})
    return _answered("login", response, secure=True).codes


@pytest.mark.parametrize("listed", [[True], [None], ["7000215"], [10**30], [-1], "x", {}])
def test_what_is_no_number_of_an_error_is_none(listed: Any) -> None:
    assert codes({"error": "invalid_client", "error_codes": listed}) == ()


def test_numbers_come_from_the_list_and_from_the_text() -> None:
    assert codes({"error_description": "AADSTS50034: x AADSTS7000215", "error_codes": [7000215, 1]}) == (
        50034,
        7000215,
        1,
    )


@pytest.mark.parametrize(
    ("url", "is_short"),
    [
        ("http://169.254.169.254/metadata/identity/oauth2/token", True),
        ("http://localhost:40342/metadata/identity/oauth2/token", True),
        ("https://login.microsoftonline.com/t/oauth2/v2.0/token", False),
        ("https://x.vault.azure.net/secrets/a", False),
    ],
)
def test_a_service_of_the_machines_own_is_not_waited_for_long(url: str, is_short: bool) -> None:
    """Where it does not exist, packets to it may just vanish."""
    transport = Transport(ProviderSession("p", None, 20), 20)
    with (
        patch.object(RequestsTransport, "send", side_effect=ServiceRequestError("x")) as send,
        pytest.raises(ServiceRequestError),
    ):
        transport.send(HttpRequest("GET", url))
    limit = send.call_args.kwargs.get("connection_timeout", transport.connection_config.timeout)
    assert limit == (2 if is_short else 20)
