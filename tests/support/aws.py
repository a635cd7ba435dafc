"""A moto server and what tests do with it; see tests/servers/moto_aws.py."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import urllib.request
from typing import TYPE_CHECKING, Any, Self

from botocore.config import Config
from botocore.session import Session

from tests.support.process import PYTHON, ROOT, environment, reap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REGION = "eu-central-1"
ADMIN = ("testing", "testing")  # moto accepts any keys until its IAM checks are on


class Moto:
    """A running moto server; use it in a `with`. With the files of a certificate and its key it speaks HTTPS.

    `ca_cert` is whom the test's own clients trust then.
    """

    def __init__(self, *certificate: str, ca_cert: str | None = None) -> None:
        self._ca_cert = ca_cert
        script = os.path.join(ROOT, "tests", "servers", "moto_aws.py")
        # -P: moto's own imports must not find tests/servers first
        argv = [PYTHON, "-P", "-W", "ignore", script, *certificate]
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment()
            )
            assert self._process.stdout is not None
            port = self._process.stdout.readline()
            if not port:
                reap(self._process)
                raise AssertionError(f"moto did not start: {os.pread(errors.fileno(), 10_000, 0).decode()}")
        self.port = int(port)
        self.endpoint = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        finally:
            reap(self._process)

    def client(self, service: str = "secretsmanager", keys: tuple[str, str] = ADMIN) -> Any:
        """A client of botocore for the test's own use."""
        session = Session()
        session.set_credentials(*keys)
        config = Config(retries={"total_max_attempts": 1})
        return session.create_client(
            service, region_name=REGION, endpoint_url=self.endpoint, config=config, verify=self._ca_cert
        )

    def put(self, name: str, content: str | bytes, keys: tuple[str, str] = ADMIN) -> str:
        """Store a secret, or a new version of it; the version's id."""
        key: dict[str, Any] = {"SecretString": content} if isinstance(content, str) else {"SecretBinary": content}
        client = self.client(keys=keys)
        try:
            answer = client.create_secret(Name=name, **key)
        except client.exceptions.ResourceExistsException:
            answer = client.put_secret_value(SecretId=name, **key)
        return str(answer["VersionId"])

    def user(self, name: str, *actions: str) -> tuple[str, str]:
        """Keys of a new IAM user who may do these actions and no others."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": list(actions) or "none:none", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="tests", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def check_credentials(self, *, after: int = 0) -> None:
        """Have moto check keys and permissions after so many more requests; a huge number switches that off."""
        self._post("/moto-api/reset-auth", str(after).encode(), "text/plain")

    def accept_everybody(self) -> None:
        """Switch that off again."""
        self.check_credentials(after=10**9)

    def calls(self) -> list[str]:
        """The operations asked for since the last `reset`, such as `GetSecretValue`."""
        return [call.removeprefix("secretsmanager.") for call in self._record()["calls"]]

    def most_at_once(self) -> int:
        """How many of them were under way at the same time."""
        return int(self._record()["most"])

    def under_way(self) -> int:
        """How many have not been answered yet."""
        return int(self._record()["now"])

    def _record(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.endpoint}/dso-test/calls") as answer:
            return dict(json.load(answer))

    def reset(self) -> None:
        """Forget calls and faults; secrets stay."""
        self._post("/dso-test/reset", b"")

    def fail(self, *answers: Mapping[str, Any], delay: float = 0) -> None:
        """Give these answers instead of moto's; see tests/servers/moto_aws.py."""
        usual = {"operation": "", "status": 200, "headers": {}, "times": 1}
        asked = {"delay": delay, "answers": [{**usual, **answer} for answer in answers]}
        self._post("/dso-test/faults", json.dumps(asked).encode())

    def refuse(self, code: str, *, status: int = 400, operation: str = "", times: int = 1000, **headers: str) -> None:
        """Answer with an error of Secrets Manager's."""
        body = {"__type": code, "message": "a test wants it so"}
        self.fail({"operation": operation, "status": status, "body": body, "headers": headers, "times": times})

    def _post(self, path: str, body: bytes, kind: str = "application/json") -> None:
        request = urllib.request.Request(self.endpoint + path, body, {"Content-Type": kind}, method="POST")
        with urllib.request.urlopen(request):
            pass


def settings(moto: Moto, keys: Sequence[str] = ADMIN, **more: Any) -> dict[str, Any]:
    """The `config` of a provider that uses a moto server."""
    access_key, secret_key = keys
    found = {"region": REGION, "endpoint_url": moto.endpoint, "access_key_id": access_key}
    return {**found, "secret_access_key": secret_key, **more}
