"""A small Huawei Cloud for tests: CSMS, IAM and the metadata service, under their production host names.

with HuaweiCloud() as huawei:
    version = huawei.put("db-password", "secret")
    plugin = Plugin(argv, huawei.environment())
    plugin.initialize(huawei.settings())

The unmodified SDK reaches them through a CONNECT proxy (`tests.support.connect_proxy`) and trusts them because of
`tls.ca_cert`; what they do is said in tests/servers/huawei_*.py.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest

from tests.servers.huawei_csms import Csms
from tests.servers.huawei_iam import LIST_PROJECTS, READ, CloudError, Iam, Keys, no_such_api
from tests.servers.huawei_metadata import Metadata
from tests.support.certificates import Certificates
from tests.support.connect_proxy import ConnectProxy
from tests.support.http_proxy import HttpProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dso.protocol.provider import ProviderError
    from dso.providers.huawei import HuaweiProvider
    from tests.support.http_proxy import Reply, Seen

REGION, OTHER_REGION = "cn-north-4", "ap-southeast-3"
PRIVATE = "huawei.example.com"  # endpoints of an installation of one's own: kms.* and iam.*
CSMS, IAM, METADATA = "csms", "iam", "metadata"
_LEADS_ELSEWHERE = re.compile(r"HUAWEICLOUD_|SSL_CERT_|REQUESTS_CA_BUNDLE|.*_proxy$", re.IGNORECASE)


class HuaweiCloud:
    """Use it in a `with`.

    Attributes:
        iam, metadata: the services (tests/servers/huawei_*.py).
        csms: that of REGION; `regions` has it of OTHER_REGION too.
        keys: of a user who may read secrets and ask for the id of the project.
        server: of all but the metadata service: `seen`, `delay`, `together`.
        proxy: in front of it.
        ca_cert: the CA that issued its certificate.
    """

    def __init__(self, *, proxy: ConnectProxy | None = None) -> None:
        """`proxy`: one that is there already, for a client that uses other services through it too."""
        self._stack = ExitStack()
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dso-test-huawei-"))
        self.iam = Iam((REGION, OTHER_REGION))
        self.regions = {region: Csms(region, self.iam) for region in self.iam.projects}
        self.csms = self.regions[REGION]
        self.keys = self.iam.user(*READ, LIST_PROJECTS)
        self.metadata = Metadata(self.iam, (*READ, LIST_PROJECTS))
        self._services: dict[str, Csms | Iam] = {f"kms.{PRIVATE}": self.csms, "iam.myhuaweicloud.com": self.iam}
        self._services[f"iam.{PRIVATE}"] = self.iam
        for region, csms in self.regions.items():
            self._services[f"kms.{region}.myhuaweicloud.com"] = csms
            self._services[f"iam.{region}.myhuaweicloud.com"] = self.iam
        certificates = Certificates(f"{directory}/tls", list(self._services))
        self.ca_cert = certificates.path("ca.pem")
        self.server = HttpProxy("", tls=certificates.public_context())
        self.server.reply = self.answer
        self.proxy = proxy or ConnectProxy()
        self._own_proxy = proxy is None
        self._faults: list[tuple[str, Reply, int]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.server)
        self.lead(self.proxy)
        if self._own_proxy:
            self._stack.enter_context(self.proxy)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def lead(self, proxy: ConnectProxy) -> None:
        """Have a proxy lead here too."""
        here = urlsplit(self.server.address)
        assert here.hostname is not None
        assert here.port is not None
        for host in self._services:
            proxy.add(host, (here.hostname, here.port))

    # Secrets

    def put(self, path: str, content: str | bytes, *stages: str) -> str:
        """Store a secret, or a new version of it, with these stages besides SYSCURRENT; the version's id."""
        return self.csms.put(csms_name(path), content, *stages)

    # For the provider

    def settings(self, keys: Keys | None = None, **more: Any) -> dict[str, Any]:
        """The `config` of a provider that uses these keys, `self.keys` if it is none."""
        auth = (keys or self.keys).auth()
        common = {"region": REGION, "project_id": self.iam.projects[REGION], "auth": auth}
        return {**common, "tls": {"ca_cert": self.ca_cert}, **more}

    def environment(self) -> dict[str, str]:
        """What makes a client find them."""
        return {"HTTPS_PROXY": self.proxy.address}

    # Faults, and what came

    def fail(self, reply: Reply | CloudError, *, times: int = 1000, at: str = CSMS) -> None:
        """Give this answer so often instead of the right one."""
        with self._lock:
            self._faults.append((at, reply.reply() if isinstance(reply, CloudError) else reply, times))

    def recover(self) -> None:
        """Answer as usual again, and at once."""
        with self._lock:
            self._faults.clear()
        self.server.delay, self.server.together, self.iam.clock_offset = 0.0, None, 0.0

    def requests(self, beginning: str = "") -> list[str]:
        """What came, such as `csms GET /v1/PROJECT/secrets/db-password/versions/latest`; of it, what begins so."""
        told = [f"{self._where(each)} {each.method} {each.path}" for each in list(self.server.seen)]
        return [each for each in told if each.startswith(beginning)]

    def reads(self) -> list[str]:
        """What CSMS was asked for: `db-password/versions/latest`."""
        return [each.partition("/secrets/")[2] for each in self.requests(f"{CSMS} GET ")]

    def clear(self) -> None:
        """Forget what came."""
        self.server.clear()
        self.proxy.clear()

    def answer(self, seen: Seen) -> Reply:
        """What any of the services answers; for servers of a test's own too."""
        where = self._where(seen)
        with self._lock:
            for number, (at, reply, times) in enumerate(self._faults):
                if at == where:
                    self._faults[number : number + 1] = [(at, reply, times - 1)] if times > 1 else []
                    return reply
        if where == METADATA:
            return self.metadata.answer(seen)
        try:
            service = self._services.get(_host(seen))
            if service is None:
                raise no_such_api()
            return service.answer(seen)
        except CloudError as refusal:
            return refusal.reply()

    def _where(self, seen: Seen) -> str:
        host = _host(seen)
        if host.startswith("169.254."):
            return METADATA
        return IAM if host.startswith("iam.") else CSMS


def _host(seen: Seen) -> str:
    return seen.headers.get("host", "").partition(":")[0]


def csms_name(path: str) -> str:
    """Where a secret of this path is in CSMS, whose names have no slashes."""
    return path.replace("/", "-")


@contextmanager
def provider(
    config: Mapping[str, Any], environment: Mapping[str, str], *, timeout: float = 20
) -> Iterator[HuaweiProvider]:
    """The provider in this process, with these variables, as a plugin has it."""
    from dso.providers.huawei import HuaweiProvider

    kept = {name: value for name, value in os.environ.items() if not _LEADS_ELSEWHERE.match(name)}
    with patch.dict(os.environ, {**kept, **environment}, clear=True):
        opened = HuaweiProvider.open("tested", config, timeout)
        try:
            yield opened
        finally:
            opened.close()


def read(opened: HuaweiProvider, path: str, version: str | None = None) -> bytes:
    """A secret's content."""
    return opened.get(path, version).content.reveal()


def refused(huawei: HuaweiCloud, path: str, *, timeout: float = 20, **more: Any) -> ProviderError:
    """The error that reading a secret with these settings must end with."""
    with provider(huawei.settings(**more), huawei.environment(), timeout=timeout) as opened:
        return fault(lambda: opened.get(path, None))


def fault(call: Callable[[], object]) -> ProviderError:
    """The error that a call must end with."""
    from dso.protocol.provider import ProviderError

    with pytest.raises(ProviderError) as caught:
        call()
    assert "tested" in caught.value.message, "which provider?"
    return caught.value
