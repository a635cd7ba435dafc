"""What of botocore's data dso-provider-aws needs: its models of 400 services would be 25 MB and more."""

from __future__ import annotations

import json
import os

import botocore

SERVICES = ("secretsmanager", "sts", "sso", "sso-oidc", "signin")  # the first, and where its credentials come from
TYPES = ("service-2", "endpoint-rule-set-1", "paginators-1")
TABLES = ("partitions.json", "_retry.json", "sdk-default-configuration.json")
ENDPOINTS = {"secretsmanager", "sts", "portal.sso", "oidc", "signin"}  # their names in endpoints.json
CERTIFICATES = "cacert.pem"

ROOT = os.path.dirname(botocore.__file__)


def aws_data(directory: str) -> dict[str, str]:
    """The files, as `botocore/NAME` -> path; what is made anew goes to the directory."""
    data = os.path.join(ROOT, "data")
    found = {CERTIFICATES: os.path.join(ROOT, CERTIFICATES), "endpoints.json": _endpoints(data, directory)}
    found.update((name, os.path.join(data, name)) for name in TABLES)
    for service in SERVICES:
        (version,) = os.listdir(os.path.join(data, service))
        for file_name in os.listdir(os.path.join(data, service, version)):
            if file_name.startswith(TYPES):
                name = f"{service}/{version}/{file_name}"
                found[name] = os.path.join(data, name)
    return {f"botocore/{name}": path for name, path in sorted(found.items())}


def _endpoints(data: str, directory: str) -> str:
    """endpoints.json without other services: a twentieth of it, which botocore reads whole."""
    with open(os.path.join(data, "endpoints.json"), encoding="utf-8") as file:
        endpoints = json.load(file)
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services if name in ENDPOINTS}
    path = os.path.join(directory, "endpoints.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(endpoints, file, separators=(",", ":"), sort_keys=True)
    return path
