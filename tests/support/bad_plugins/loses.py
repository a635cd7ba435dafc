#!/usr/bin/env python3
"""Is alive, but has no answer for `lost`; that for `late` comes with the next request."""

from typing import Any

from rpc import answer, secret, serve

late: list[dict[str, Any]] = []


def get(request):
    path = request["params"]["path"]
    if path == "late":
        late.append(request)
    elif path != "lost":
        answer(request, secret(path))
        while late:
            answer(late.pop(), secret("late"))


serve(get=get)
