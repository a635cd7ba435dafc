"""The software bill of materials of a release: CycloneDX 1.6, as JSON.

It says which binary holds which package, and what the wheels say about what they hold themselves.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from build.release.bundled import all_packages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from build.release.bundled import Content, Package, Release, Source

Component = dict[str, Any]

_UNKNOWN_TO_READERS = ("bom-ref", "evidence", "properties")  # of nested components; references may occur twice


def render(release: Release, version: str, when: int, sums: Mapping[str, str], contents: Mapping[str, Content]) -> str:
    """The document.

    Args:
        release: what the binaries were made with.
        version: of DSO.
        when: the time of the commit, in seconds.
        sums: SHA-256 of each binary.
        contents: what is in each binary.
    """
    packages = all_packages(list(contents.values()))
    sources = sorted({one for content in contents.values() for one in content.sources})
    binaries = [_binary(name, version, sums[name]) for name in sorted(contents)]
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "bom-ref": "dso", "name": "dso", "version": version},
            "properties": [_property("accepted", accepted) for accepted in release.to_accept],
        },
        "components": [*binaries, *map(_source, sources), *(_package(release, one) for one in packages)],
        "dependencies": [{"ref": "dso", "dependsOn": [f"dso/{name}" for name in sorted(contents)]}]
        + [{"ref": f"dso/{name}", "dependsOn": _references(contents[name])} for name in sorted(contents)],
    }
    text = json.dumps(document, sort_keys=True)
    return json.dumps({**document, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"}, indent=1) + "\n"


def _references(content: Content) -> list[str]:
    return [*(f"deb/{one.name}" for one in content.sources), *(f"pypi/{one.name}" for one in content.packages)]


def _binary(name: str, version: str, digest: str) -> Component:
    return {
        "type": "application",
        "bom-ref": f"dso/{name}",
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def _source(source: Source) -> Component:
    return {
        "type": "library",
        "bom-ref": f"deb/{source.name}",
        "name": source.name,
        "version": source.version,
        "purl": f"pkg:deb/debian/{source.name}@{_quoted(source.version)}?arch=source",
        "licenses": [{"license": {"name": f"see licenses/{source.name}/copyright"}}],
        "properties": [_property("newest-listed", source.newest)]
        + ([] if source.is_newest else [_property("accepted", f"{source.name}={source.version}")]),
    }


def _property(name: str, value: str) -> Component:
    """What Debian's mirror listed when the sources were looked up, and what was accepted by name all the same."""
    return {"name": f"dso:{name}", "value": value}


def _package(release: Release, package: Package) -> Component:
    component: Component = {
        "type": "library",
        "bom-ref": f"pypi/{package.name}",
        "name": package.name,
        "version": package.version,
        "purl": f"pkg:pypi/{package.name}@{_quoted(package.version)}",
        "licenses": _licences(package),
    }
    inside = _listed_by_wheel(package)
    embedded = release.embedded_version(package)
    if embedded:
        inside.append({"type": "library", "name": embedded[0], "version": embedded[1]})
    return {**component, "components": inside} if inside else component


def _licences(package: Package) -> list[Component]:
    metadata = package.distribution.metadata
    if metadata["License-Expression"]:
        return [{"expression": metadata["License-Expression"]}]
    classifiers = [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier") or () if "License ::" in one]
    stated = (metadata["License"] or "").strip().splitlines()
    names = classifiers or stated[:1] or [f"see licenses/{package.name}"]
    return [{"license": {"name": name}} for name in sorted(set(names))]


def _listed_by_wheel(package: Package) -> list[Component]:
    """What the bills of materials in its .dist-info/sboms list (PEP 770)."""
    found: list[Component] = []
    for path in sorted(package.distribution.files or ()):
        if ".dist-info/sboms/" in str(path) and str(path).endswith(".json"):
            listed = json.loads(path.read_text(encoding="utf-8")).get("components", [])
            found += [{key: one[key] for key in one if key not in _UNKNOWN_TO_READERS} for one in listed]
    return found


def _quoted(version: str) -> str:
    return version.replace(":", "%3A").replace("+", "%2B").replace("~", "%7E")
