"""The tests' own Huawei Cloud is as strict as the real one: what it lets pass, a real gateway would too."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.servers import huawei_signature as signing
from tests.servers.huawei_csms import DISABLED, FROZEN, LARGEST, PENDING_DELETE, Csms
from tests.servers.huawei_iam import DECRYPT, LIST_PROJECTS, READ, CloudError, Iam, Keys
from tests.servers.huawei_metadata import KEYS_PATH, OPTIONAL, REQUIRED, TOKEN_PATH, Metadata
from tests.support.http_proxy import Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST, REGION = "kms.cn-north-4.myhuaweicloud.com", "cn-north-4"
EVERYTHING = (*READ, LIST_PROJECTS, "csms:secret:list", "csms:secret:get", "csms:secretVersion:list")


# The signature itself

# The example of the API Request Signing Guide (devg-apisign/api-sign-algorithm-002 to -005). The guide blots out a part
# of the SK; the whole of it stands in tests of Huawei Cloud's SDK for Java.
EXAMPLE = signing.Message(
    "GET",
    "/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs?marker=13551d6b-755d-4757-b956-536f674975c0&limit=2",
    {
        "content-type": "application/json",
        "host": "service.region.example.com",
        "x-sdk-date": "20191115T033655Z",
        "authorization": "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, "
        "SignedHeaders=content-type;host;x-sdk-date, "
        "Signature=7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe",
    },
    b"",
)
EXAMPLE_KEY = "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
EXAMPLE_TIME = 1573789015.0


def test_huaweis_own_example_is_verified_at_its_time() -> None:
    claimed = signing.authorization(EXAMPLE)
    assert claimed.access_key == "QTWAOYTTINDUT2QVKYUC"
    signing.verify(EXAMPLE, claimed, EXAMPLE_KEY, EXAMPLE_TIME)


def test_huaweis_own_example_passes_through_the_forms_it_shows() -> None:
    canonical = signing.canonical_request(EXAMPLE, ["content-type", "host", "x-sdk-date"])
    assert canonical == (
        "GET\n"
        "/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs/\n"
        "limit=2&marker=13551d6b-755d-4757-b956-536f674975c0\n"
        "content-type:application/json\nhost:service.region.example.com\nx-sdk-date:20191115T033655Z\n"
        "\n"
        "content-type;host;x-sdk-date\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    assert signing.string_to_sign(canonical, "20191115T033655Z") == (
        "SDK-HMAC-SHA256\n20191115T033655Z\nb25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a"
    )


@pytest.mark.parametrize(("late", "good"), [(899, True), (-899, True), (901, False), (-901, False), (86400, False)])
def test_a_signature_is_good_for_a_quarter_of_an_hour(late: int, good: bool) -> None:
    claimed = signing.authorization(EXAMPLE)
    if good:
        signing.verify(EXAMPLE, claimed, EXAMPLE_KEY, EXAMPLE_TIME + late)
    else:
        with pytest.raises(signing.SignatureError, match="signature expired"):
            signing.verify(EXAMPLE, claimed, EXAMPLE_KEY, EXAMPLE_TIME + late)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/p", "/v1/p/"),
        ("/v1/p/", "/v1/p/"),
        ("/a b", "/a%20b/"),
        ("/a%20b~", "/a%20b~/"),
        ("/%E2%98%83", "/%E2%98%83/"),
        ("/a%2fb", "/a%2Fb/"),
    ],
)
def test_the_path_is_encoded_in_one_way_and_ends_with_a_slash(path: str, expected: str) -> None:
    message = EXAMPLE._replace(path=path)
    assert signing.canonical_request(message, []).splitlines()[1] == expected


def test_the_query_is_sorted_and_encoded_in_one_way() -> None:
    message = EXAMPLE._replace(path="/p?b=2&a=x%20y&a=%2a&empty=&c=%7E")
    assert signing.canonical_request(message, []).splitlines()[2] == "a=%2A&a=x%20y&b=2&c=~&empty="


def with_header(name: str, value: str) -> signing.Message:
    return EXAMPLE._replace(headers={**EXAMPLE.headers, name: value})


@pytest.mark.parametrize(
    "altered",
    [
        EXAMPLE._replace(method="PUT"),
        EXAMPLE._replace(path=EXAMPLE.path.replace("vpcs", "vpcz")),
        EXAMPLE._replace(path=EXAMPLE.path.replace("limit=2", "limit=3")),
        EXAMPLE._replace(path=EXAMPLE.path + "&more=1"),
        EXAMPLE._replace(path=EXAMPLE.path.partition("?")[0]),
        EXAMPLE._replace(body=b" "),
        with_header("content-type", "text/plain"),
        with_header("host", "other.example.com"),
        with_header("x-sdk-date", "20191115T033656Z"),
        with_header("x-sdk-date", "yesterday"),
        EXAMPLE._replace(headers={name: EXAMPLE.headers[name] for name in ("host", "x-sdk-date", "authorization")}),
    ],
)
def test_what_was_altered_on_the_way_is_refused(altered: signing.Message) -> None:
    with pytest.raises(signing.SignatureError):
        signing.verify(altered, signing.authorization(altered), EXAMPLE_KEY, EXAMPLE_TIME)


def test_another_key_made_another_signature() -> None:
    with pytest.raises(signing.SignatureError, match="verify aksk signature fail"):
        signing.verify(EXAMPLE, signing.authorization(EXAMPLE), EXAMPLE_KEY[:-1], EXAMPLE_TIME)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic YTpi",
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date",
        "V11-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=x-sdk-date, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=x-sdk-date;host, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host;host;x-sdk-date, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date, Signature=",
    ],
)
def test_who_does_not_say_it_as_the_guide_does_signed_nothing(header: str) -> None:
    with pytest.raises(signing.SignatureError):
        signing.authorization(with_header("authorization", header))


# The gateway


class Cloud:
    """The services, asked without a network, by a client that signs with what it is told to."""

    def __init__(self) -> None:
        self.iam = Iam([REGION, "ap-southeast-3"])
        self.csms = Csms(REGION, self.iam)
        self.keys = self.iam.user(*EVERYTHING)
        self.root = f"/v1/{self.iam.projects[REGION]}/secrets"

    def ask(
        self,
        path: str,
        keys: Keys | None = None,
        *,
        send: Mapping[str, str] | None = None,
        unsigned: str = "",
    ) -> Reply:
        """A GET; `send` are further headers, `unsigned` is one that the signature leaves out."""
        keys = keys or self.keys
        token = {"x-security-token": keys.token} if keys.token else {}
        date = time.strftime(signing.DATE, time.gmtime())
        headers = {"host": HOST, "x-sdk-date": date, **token, **(send or {})}
        names = sorted(headers.keys() - {unsigned})
        message = signing.Message("GET", path, headers, b"")
        made = signing.signature(signing.canonical_request(message, names), headers["x-sdk-date"], keys.secret)
        headers["authorization"] = (
            f"SDK-HMAC-SHA256 Access={keys.access}, SignedHeaders={';'.join(names)}, Signature={made}"
        )
        seen = Seen("GET", path, headers, b"")
        try:
            return self.iam.answer(seen) if path.startswith("/v3/") else self.csms.answer(seen)
        except CloudError as error:
            return error.reply()

    def json(self, path: str, keys: Keys | None = None) -> Any:
        """The same, which has to succeed."""
        reply = self.ask(path, keys)
        assert reply.status == 200, reply
        return json.loads(reply.body)

    def refused(self, path: str, keys: Keys | None = None, **more: Any) -> tuple[int | None, str]:
        """The same, which has to fail: status and code."""
        reply = self.ask(path, keys, **more)
        return reply.status, json.loads(reply.body)["error_code"]


@pytest.fixture
def cloud() -> Cloud:
    cloud = Cloud()
    cloud.csms.put("db", "value")
    return cloud


UNAUTHENTICATED = (401, "APIGW.0301")


def test_nothing_is_told_to_who_does_not_sign(cloud: Cloud) -> None:
    for path in (cloud.root, f"{cloud.root}/db/versions/latest", "/v3/projects", "/"):
        seen = Seen("GET", path, {"host": HOST}, b"")
        with pytest.raises(CloudError) as refused:
            cloud.iam.answer(seen) if path.startswith("/v3/") else cloud.csms.answer(seen)
        assert (refused.value.status, refused.value.code) == UNAUTHENTICATED


def test_an_unknown_key_a_wrong_one_and_one_that_was_deleted_are_refused(cloud: Cloud) -> None:
    path = f"{cloud.root}/db/versions/latest"
    assert cloud.refused(path, Keys("A" * 20, "s")) == UNAUTHENTICATED
    assert cloud.refused(path, cloud.keys._replace(secret="wrong")) == UNAUTHENTICATED
    assert cloud.refused(path, cloud.iam.user(*EVERYTHING)._replace(secret=cloud.keys.secret)) == UNAUTHENTICATED
    cloud.iam.revoke(cloud.keys)
    assert cloud.refused(path) == UNAUTHENTICATED


def test_an_old_request_is_refused(cloud: Cloud) -> None:
    path = f"{cloud.root}/db/versions/latest"
    assert cloud.refused(path, send={"x-sdk-date": "20200101T000000Z"}) == UNAUTHENTICATED
    cloud.iam.clock_offset = 901
    assert cloud.refused(path) == UNAUTHENTICATED


def test_temporary_keys_need_their_own_token_signed_and_not_expired(cloud: Cloud) -> None:
    path = f"{cloud.root}/db/versions/latest"
    keys, others = cloud.iam.temporary(*READ), cloud.iam.temporary(*READ)
    assert cloud.ask(path, keys).status == 200
    assert cloud.refused(path, keys._replace(token="")) == UNAUTHENTICATED
    assert cloud.refused(path, keys._replace(token=others.token)) == UNAUTHENTICATED
    assert cloud.refused(path, cloud.keys._replace(token=keys.token)) == UNAUTHENTICATED
    assert cloud.refused(path, keys, unsigned="x-security-token") == UNAUTHENTICATED
    cloud.iam.expire(keys)
    assert cloud.refused(path, keys) == UNAUTHENTICATED
    assert cloud.refused(path, cloud.iam.temporary(*READ, seconds=-1)) == UNAUTHENTICATED


def test_each_api_needs_its_permission(cloud: Cloud) -> None:
    paths = {
        "csms:secret:list": "",
        "csms:secret:get": "/db",
        "csms:secretVersion:list": "/db/versions",
        "csms:secretVersion:get": "/db/versions/latest",
        "csms:secretStage:get": "/db/stages/SYSCURRENT",
    }
    for action, path in paths.items():
        assert cloud.ask(cloud.root + path).status == 200
        others = cloud.iam.user(*(set(EVERYTHING) - {action}))
        assert cloud.refused(cloud.root + path, others) == (403, "CSMS.0302")
    cannot_decrypt = cloud.iam.user(*(set(EVERYTHING) - {DECRYPT}))
    assert cloud.refused(f"{cloud.root}/db/versions/latest", cannot_decrypt) == (400, "CSMS.0401")


def test_other_projects_paths_and_methods_are_refused(cloud: Cloud) -> None:
    for project in (cloud.iam.projects["ap-southeast-3"], "0" * 32):
        assert cloud.refused(f"/v1/{project}/secrets") == (403, "APIGW.0310")
    for path in (
        "/",
        "/v1",
        f"{cloud.root}/db/other",
        f"{cloud.root}/db/versions/v1/x",
        cloud.root.replace("v1", "v2"),
    ):
        assert cloud.refused(path) == (404, "APIGW.0101")


# Projects


def test_the_project_is_found_by_the_regions_name_only(cloud: Cloud) -> None:
    cloud.iam.extra_projects.append((f"{REGION}_team", "1" * 32))
    (found,) = cloud.json(f"/v3/projects?name={REGION}")["projects"]
    assert (found["id"], found["name"]) == (cloud.iam.projects[REGION], REGION)
    assert cloud.json("/v3/projects?name=cn-nowhere-1")["projects"] == []
    assert len(cloud.json("/v3/projects")["projects"]) == 3


def test_who_may_not_list_projects_is_refused(cloud: Cloud) -> None:
    reply = cloud.ask(f"/v3/projects?name={REGION}", cloud.iam.user(*READ))
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (403, 403)


# Secrets


def test_versions_are_numbered_and_the_stages_move(cloud: Cloud) -> None:
    cloud.csms.put("db", "second", "blue")
    cloud.csms.put("db", "third")
    shown = {
        version: cloud.json(f"{cloud.root}/db/versions/{version}")["version"] for version in ("v1", "v2", "latest")
    }
    assert {version: each["secret_string"] for version, each in shown.items()} == {
        "v1": "value",
        "v2": "second",
        "latest": "third",
    }
    assert [shown[version]["version_metadata"]["version_stages"] for version in ("v1", "v2", "latest")] == [
        [],
        ["SYSPREVIOUS", "blue"],
        ["SYSCURRENT"],
    ]
    stages = {"SYSCURRENT": "v3", "SYSPREVIOUS": "v2", "blue": "v2"}
    for stage, version in stages.items():
        found = cloud.json(f"{cloud.root}/db/stages/{stage}")["stage"]
        assert (found["name"], found["secret_name"], found["version_id"]) == (stage, "db", version)


def test_bytes_travel_in_base64_and_text_as_it_is(cloud: Cloud) -> None:
    cloud.csms.put("binary", b"\x00\xff")
    cloud.csms.put("text", 'ünïcode ☃ "quoted"')
    assert "secret_string" not in cloud.json(f"{cloud.root}/binary/versions/latest")["version"]
    assert cloud.json(f"{cloud.root}/binary/versions/latest")["version"]["secret_binary"] == "AP8="
    assert cloud.json(f"{cloud.root}/text/versions/latest")["version"]["secret_string"] == 'ünïcode ☃ "quoted"'


@pytest.mark.parametrize(
    ("state", "refusal"),
    [(DISABLED, (403, "CSMS.0109")), (FROZEN, (403, "CSMS.0109")), (PENDING_DELETE, (400, "CSMS.0103"))],
)
def test_only_enabled_secrets_are_handed_out(cloud: Cloud, state: str, refusal: tuple[int, str]) -> None:
    cloud.csms.set_state("db", state)
    for version in ("latest", "v1"):
        assert cloud.refused(f"{cloud.root}/db/versions/{version}") == refusal
    assert cloud.json(f"{cloud.root}/db")["secret"]["state"] == state


def test_what_is_not_there_is_refused(cloud: Cloud) -> None:
    assert cloud.refused(f"{cloud.root}/absent/versions/latest") == (400, "CSMS.0106")
    assert cloud.refused(f"{cloud.root}/db/versions/v9") == (400, "CSMS.0005")
    assert cloud.refused(f"{cloud.root}/db/stages/absent") == (400, "CSMS.0005")
    assert cloud.refused(f"{cloud.root}/db/versions/SYSCURRENT") == (400, "CSMS.0002")
    for name in ("a b", "a" * 65, "a/b", "ä"):
        assert cloud.refused(f"{cloud.root}/{quote(name, safe='')}/versions/latest") == (400, "CSMS.0002")
    cloud.csms.remove("db")
    assert cloud.refused(f"{cloud.root}/db/versions/latest") == (400, "CSMS.0106")


def test_more_than_a_secret_may_hold_is_not_stored(cloud: Cloud) -> None:
    cloud.csms.put("full", "x" * LARGEST)
    with pytest.raises(AssertionError):
        cloud.csms.put("full", "x" * (LARGEST + 1))
    with pytest.raises(AssertionError):
        cloud.csms.put("full", b"x" * LARGEST)


def test_lists_come_in_pages(cloud: Cloud) -> None:
    for number in range(4):
        cloud.csms.put(f"page-{number}", "one")
        cloud.csms.put("db", f"value-{number}")
    names: list[str] = []
    query = "?limit=2"
    while query:
        page = cloud.json(f"{cloud.root}{query}")
        names += [secret["name"] for secret in page["secrets"]]
        marker = page["page_info"]["next_marker"]
        query = f"?limit=2&marker={marker}" if marker else ""
    assert names == ["db", "page-0", "page-1", "page-2", "page-3"]
    first = cloud.json(f"{cloud.root}/db/versions?limit=3")
    marker = first["page_info"]["next_marker"]
    second = cloud.json(f"{cloud.root}/db/versions?limit=3&marker={marker}")
    versions = [each["id"] for each in [*first["version_metadatas"], *second["version_metadatas"]]]
    assert versions == ["v5", "v4", "v3", "v2", "v1"]
    assert second["page_info"]["next_marker"] is None
    assert cloud.refused(f"{cloud.root}?limit=none") == (400, "CSMS.0002")


# The metadata service


def ask(metadata: Metadata, path: str = KEYS_PATH, method: str = "GET", **headers: str) -> Reply:
    return metadata.answer(Seen(method, path, {name.replace("_", "-"): value for name, value in headers.items()}, b""))


def test_a_machine_hands_out_keys_that_are_good_for_what_its_agency_may_do(cloud: Cloud) -> None:
    metadata = Metadata(cloud.iam)
    credential = json.loads(ask(metadata).body)["credential"]
    keys = Keys(credential["access"], credential["secret"], credential["securitytoken"])
    assert cloud.ask(f"{cloud.root}/db/versions/latest", keys).status == 200
    assert cloud.refused(cloud.root, keys) == (403, "CSMS.0302")
    metadata.actions = None
    assert ask(metadata).status == 401
    assert ask(metadata, x_forwarded_for="1.2.3.4").status == 403
    assert ask(metadata, "/openstack/latest/password").status == 404


def test_a_machine_may_want_tokens(cloud: Cloud) -> None:
    metadata = Metadata(cloud.iam)
    assert ask(metadata, TOKEN_PATH, "PUT", x_metadata_token_ttl_seconds="60").status == 404
    metadata.tokens = OPTIONAL
    assert ask(metadata).status == 200
    assert ask(metadata, x_metadata_token="wrong").status == 401
    assert ask(metadata, TOKEN_PATH, "PUT", x_metadata_token_ttl_seconds="59").status == 400
    token = ask(metadata, TOKEN_PATH, "PUT", x_metadata_token_ttl_seconds="60").body.decode()
    metadata.tokens = REQUIRED
    assert ask(metadata).status == 401
    assert ask(metadata, x_metadata_token=token).status == 200
    metadata.forget_tokens()
    assert ask(metadata, x_metadata_token=token).status == 401
