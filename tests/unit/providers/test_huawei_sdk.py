"""The part of Huawei Cloud's SDK that is used: what stands in for the rest fits, and the rest does not happen."""

from __future__ import annotations

import ast
import json
import os
from typing import TYPE_CHECKING, Any

import huaweicloudsdkcore
import huaweicloudsdkcsms
import pytest

from dso.providers import huawei_sdk
from tests.support.process import PYTHON, ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from dso.providers import huawei_sdk
members = {name: sorted(vars(sys.modules[name])) for name in huawei_sdk.LEFT_OUT}
print(json.dumps({"modules": sorted(sys.modules), "members": members}))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What there is after the import in a process of its own, and the home directory it had."""
    home = tmp_path_factory.mktemp("home")
    done = run([PYTHON, "-I", "-c", CHILD, ROOT], env={"HOME": str(home), "HUAWEICLOUD_SDK_REGIONS_FILE": "/none"})
    found: dict[str, Any] = json.loads(done.out)
    return found, home


def test_importing_it_leaves_nothing_in_the_home_directory(imported: tuple[dict[str, Any], Path]) -> None:
    _, home = imported
    assert os.listdir(home) == []


def test_importing_it_imports_no_library_that_reading_secrets_does_not_take(
    imported: tuple[dict[str, Any], Path],
) -> None:
    modules = set(imported[0]["modules"])
    assert "huaweicloudsdkcsms.v1.csms_client" in modules
    assert not modules & {"yaml", "pymongo", "gridfs", "dns", "defusedxml", "pyasn1", "configparser", "asyncio"}
    assert "requests_toolbelt.multipart" not in modules
    assert len([name for name in modules if name.startswith("huaweicloudsdkcsms.v1.model.")]) == 10


def test_stand_ins_have_every_name_that_the_sdk_takes_from_them(imported: tuple[dict[str, Any], Path]) -> None:
    modules = [name for name in imported[0]["modules"] if name not in huawei_sdk.LEFT_OUT]
    taken = dict.fromkeys(huawei_sdk.LEFT_OUT, 0)
    for module, names in imports_of_the_sdk(modules):
        if module in taken:
            taken[module] += 1
            assert set(names) <= set(imported[0]["members"][module]), module
    assert all(taken.values()), "a stand-in that nobody asks for"


def imports_of_the_sdk(modules: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Every `from MODULE import NAMES` and `import MODULE` at the top of those modules of the SDK."""
    roots = [os.path.dirname(os.path.dirname(package.__file__)) for package in (huaweicloudsdkcore, huaweicloudsdkcsms)]
    for module in modules:
        if not module.startswith("huaweicloudsdk"):
            continue
        stem = os.path.join(roots[0], *module.split("."))
        path = f"{stem}.py" if os.path.exists(f"{stem}.py") else os.path.join(stem, "__init__.py")
        with open(path, encoding="utf-8") as stream:
            for node in ast.parse(stream.read()).body:
                if isinstance(node, ast.ImportFrom):
                    yield node.module or "", [alias.name for alias in node.names]
                elif isinstance(node, ast.Import):
                    yield from ((alias.name, []) for alias in node.names)


def test_every_class_that_an_answer_may_have_in_it_is_there() -> None:
    client = huawei_sdk.CsmsClient()
    todo = ["ShowSecretVersionResponse", "ShowSecretStageResponse", "ShowSecretResponse"]
    known = set()
    while todo:
        name = todo.pop()
        model = getattr(client.model_package, name)
        known.add(name)
        kinds = {kind.removeprefix("list[").removesuffix("]") for kind in model.openapi_types.values()}
        todo += [kind for kind in kinds - known if kind[:1].isupper()]
    assert known >= {"Version", "VersionMetadata", "Stage", "Secret"}
