#!/usr/bin/env python3
"""Takes its time for each secret: the seconds in its settings."""

import time
from typing import Any

from rpc import answer, secret, serve, told

settings: dict[str, Any] = {}


def initialize(request):
    settings.update(request["params"]["config"])
    answer(request, told())


def get(request):
    time.sleep(settings["seconds"])
    answer(request, secret(**request["params"]))


serve(initialize=initialize, get=get)
