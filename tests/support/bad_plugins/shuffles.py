#!/usr/bin/env python3
"""Answers `get` only when it has as many as its settings say in `count`, the last one first."""

from typing import Any

from rpc import answer, secret, serve, told

waiting: list[dict[str, Any]] = []
settings: dict[str, Any] = {}


def initialize(request):
    settings.update(request["params"]["config"])
    answer(request, told())


def get(request):
    waiting.append(request)
    if len(waiting) == settings["count"]:
        while waiting:
            request = waiting.pop()
            answer(request, secret(**request["params"]))


serve(initialize=initialize, get=get)
