"""Every value arrives to the byte, as a variable, in a template, as a file and in a rendered configuration."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.home import DsoHome
from tests.support.project import Project

KIB = 1024
MAX_VARIABLE = 128 * KIB  # execve(2): "NAME=value" and its NUL

# As variables, in templates and as files.
TEXTS = {
    "dollar": "$",
    "dollars": "a$b$$c$$$d",
    "interpolation": "${X} ${X:-y} ${X?z} $HOME $(id) `id` %s %(a)s {{x}}",
    "single_quotes": "'it''s'",
    "double_quotes": '"say ""it"""',
    "backslashes": "\\ \\\\ \\n \\x41 \\u0041 C:\\new\\",
    "newlines": "one\n\ntwo\n  three",
    "trailing_newline": "value\n",
    "only_newline": "\n",
    "carriage_returns": "one\r\ntwo\rthree\r\n",
    "spaces": "  two before, three after   ",
    "tabs": "\tbefore, after\t",
    "latin": "Grüße, søster",
    "astral": "\U0001f600 \U0001d54f \U0010fffd",
    "next_line": "a\u0085b",
    "line_separators": "a\u2028b\u2029c",
    "byte_order_mark": "\ufeffvalue",
    "non_characters": "\ufffe\uffff\ufdd0",
    "combining": "e\u0301 \u200b\u202e",
    "control_characters": "".join(map(chr, [*range(1, 32), 127])),
    "c1_controls": "".join(map(chr, range(0x80, 0xA0))),
    "comment": "# not a comment # nor this",
    "yaml_mapping": "key: value",
    "yaml_flow": "{a: [b, *c]}",
    "yaml_tag": "!reset null",
    "yaml_block": "|-\n  - a\n---\n...",
    "null": "null",
    "octal": "0644",
    "sexagesimal": "22:22",
    "yes": "yes",
    "equals": "=a=b=",
    "braces": "{{dso://v/dollar}}",
    "reference": "dso://v/dollar",
    "long_line": "x" * 5000,
}
# As files only.
BINARIES = {
    "nul": b"a\0b\0",
    "invalid_utf8": b"\xff\xfe\xc3\x28\xed\xa0\x80",
    "every_byte": bytes(range(256)),
    "one_mebibyte": secrets.token_bytes(KIB * KIB),
}
LARGEST_NAME = "LARGEST"


class Delivered(NamedTuple):
    """What arrived: the first process's variables, and the files of the container by their path."""

    environment: dict[str, bytes]
    inspected: dict[str, str]
    files: dict[str, bytes]
    largest: bytes
    sent: dict[str, bytes]


def pem() -> bytes:
    """A private key as OpenSSL writes it, of 4096 bits."""
    key = rsa.generate_private_key(65537, 4096)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def store(home: DsoHome, values: dict[str, bytes]) -> None:
    for name, value in values.items():
        home.dso("secret", "set", name, "--raw", input=value)


def yaml(images, texts: dict[str, bytes], files: dict[str, bytes]) -> str:
    """One service with every text in a variable and a template and every value in a file; another with a large one."""
    variables = {f"V_{name}": f"dso://v/{name}" for name in texts}
    variables |= {f"T_{name}": f"<{{{{dso://v/{name}}}}}$$|{{{{ dso://v/{name} }}}}>" for name in texts}
    variables |= {f"F_{name}": f"dsofile://v/{name}" for name in files}
    rendered = {name: {"content": f"a = {{{{dso://v/{name}}}}} $$b\n"} for name in files}
    service = {"image": images.busybox, "command": "sleep 1000", "stop_signal": "SIGKILL"}
    document = {
        "services": {
            "api": {**service, "environment": variables, "configs": list(rendered)},
            "large": {**service, "environment": {LARGEST_NAME: "dso://v/largest"}},
        },
        "configs": rendered,
    }
    return json.dumps(document)


def unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            f"/{member.name}": content.read()
            for member in tar.getmembers()
            if (content := tar.extractfile(member)) is not None
        }


def variables_of(environ: bytes) -> dict[str, bytes]:
    return {name.decode(): value for name, _, value in (entry.partition(b"=") for entry in environ.split(b"\0"))}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory, variant, engine, images):
    """All values in one stack, brought up once."""
    directory = tmp_path_factory.mktemp("values")
    home = DsoHome(str(directory / "home"), variant, engine.env)
    project = Project(str(directory / f"dsotest{secrets.token_hex(4)}"), home, engine)
    texts = {**{name: text.encode() for name, text in TEXTS.items()}, "pem": pem()}
    files = {**texts, **BINARIES}
    largest = b"x" * (MAX_VARIABLE - len(LARGEST_NAME) - 2)
    home.dso("init")
    store(home, {f"v/{name}": value for name, value in {**files, "largest": largest}.items()})
    project.compose_yaml(yaml(images, texts, files))
    try:
        project.dso("up", "-d")
        environment = variables_of(project.exec("api", "cat", "/proc/1/environ").stdout)
        rendered = [f"/{name}" for name in files]
        archive = project.exec("api", "tar", "-c", "/run/secrets/dso", *rendered).stdout
        inspected = dict(entry.split("=", 1) for entry in project.inspect("api")["Config"]["Env"])
        large = variables_of(project.exec("large", "cat", "/proc/1/environ").stdout)
        yield Delivered(environment, inspected, unpack(archive), large[LARGEST_NAME], files)
        project.dso("down")
        project.assert_nothing_left()
    finally:
        project.remove()


@pytest.mark.parametrize("name", [*TEXTS, "pem"])
def test_text_arrives_in_a_variable(name, delivered):
    assert delivered.environment[f"V_{name}"] == delivered.sent[name]
    assert delivered.inspected[f"V_{name}"].encode() == delivered.sent[name]


@pytest.mark.parametrize("name", [*TEXTS, "pem"])
def test_text_arrives_in_a_template(name, delivered):
    value = delivered.sent[name]
    assert delivered.environment[f"T_{name}"] == b"<" + value + b"$|" + value + b">"


@pytest.mark.parametrize("name", [*TEXTS, "pem", *BINARIES])
def test_value_arrives_in_a_file(name, delivered):
    path = f"/run/secrets/dso/v.{name}"
    assert delivered.environment[f"F_{name}"] == path.encode()
    assert delivered.files[path] == delivered.sent[name]


@pytest.mark.parametrize("name", [*TEXTS, "pem", *BINARIES])
def test_value_arrives_in_a_rendered_configuration(name, delivered):
    assert delivered.files[f"/{name}"] == b"a = " + delivered.sent[name] + b" $b\n"


def test_largest_variable_the_kernel_takes_arrives(delivered):
    assert len(delivered.largest) == MAX_VARIABLE - len(LARGEST_NAME) - 2


def test_values_that_no_variable_can_hold_are_all_named_and_files_proposed(home, project, images):
    home.dso("init")
    marker = secrets.token_hex(16).encode()
    too_large = marker + b"x" * (MAX_VARIABLE - len("TOO_LARGE=") - len(marker))
    assert len(b"TOO_LARGE=" + too_large + b"\0") == MAX_VARIABLE + 1
    store(home, {"v/nul": marker + b"\0", "v/binary": marker + b"\xff", "v/large": too_large, "v/fine": b"fine"})
    project.compose_yaml(f"""
services:
  api:
    image: {images.busybox}
    environment: {{NUL: "dso://v/nul", FINE: "dso://v/fine", TEMPLATE: "<{{{{dso://v/binary}}}}>"}}
  worker:
    image: {images.busybox}
    environment: {{BINARY: "dso://v/binary", TOO_LARGE: "dso://v/large"}}
""")
    for arguments in (["up", "-d"], ["up", "--dry-run"], ["validate"]):
        refused = project.dso(*arguments, check=False)
        assert refused.returncode == 24
        assert refused.stdout == b""
        for place in (
            "service api, variable NUL: it has a NUL byte",
            "service api, variable TEMPLATE: it is not UTF-8 text",
            "service worker, variable BINARY: it is not UTF-8 text",
            f"service worker, variable TOO_LARGE: it has {len(too_large)} bytes",
        ):
            assert place in refused.err
        assert "hint: deliver them as files: write dsofile://" in refused.err
        assert "FINE" not in refused.err
        assert marker not in refused.stderr
    project.assert_nothing_left()
