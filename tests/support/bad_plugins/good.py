#!/usr/bin/env python3
"""Does everything right. `record` in its settings names a file that gets a line for each request."""

import json
import os
from typing import Any

from rpc import answer, refuse, secret, serve, told

settings: dict[str, Any] = {}


def note(request):
    if "record" in settings:
        with open(settings["record"], "a", encoding="utf-8") as record:
            record.write(json.dumps(request) + "\n")


def initialize(request):
    settings.update(request["params"]["config"])
    settings["environment"] = dict(os.environ)
    note(request)
    answer(request, told(batch=settings.get("batch", 0)))


def result(request, params):
    path = params["path"]
    if path == "missing":
        return {
            "code": -32000,
            "message": f"there is no {path} for {settings.get('token')}",
            "data": {"code": "not_found"},
        }
    return secret(**params)


def get(request):
    note(request)
    found = result(request, request["params"])
    if "data" in found:
        refuse(request, found["data"]["code"], found["message"])
    elif request["params"]["path"] == "state":
        descriptors = {
            name: os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd")
            if os.path.lexists(f"/proc/self/fd/{name}")
        }
        mask = os.umask(0o077)
        fields = {
            "environment": settings["environment"],
            "cwd": os.getcwd(),
            "umask": mask,
            "descriptors": descriptors,
            "pid": os.getpid(),
            "group": os.getpgid(0),
        }
        answer(request, {"fields": fields, "version": ""})
    else:
        answer(request, found)


def get_many(request):
    note(request)
    found = [result(request, one) for one in request["params"]["requests"]]
    answer(request, {"results": [{"error": one} if "data" in one else {"secret": one} for one in found]})


def shutdown(request):
    note(request)
    answer(request, {})
    raise SystemExit


serve(initialize=initialize, get=get, get_many=get_many, shutdown=shutdown)
