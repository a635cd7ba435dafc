#!/usr/bin/env python3
"""Answers every `get` of `odd` with the bytes in its settings, in which ID stands for the request's."""

from typing import Any

from rpc import answer, secret, send, serve, told

settings: dict[str, Any] = {}


def initialize(request):
    settings.update(request["params"]["config"])
    answer(request, told())


def get(request):
    if request["params"]["path"] == "odd":
        send(settings["says"].encode("latin-1").replace(b"ID", b"%d" % request["id"]))
    elif request["params"]["path"] != "wait":
        answer(request, secret(**request["params"]))


serve(initialize=initialize, get=get)
