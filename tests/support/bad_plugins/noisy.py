#!/usr/bin/env python3
"""Writes very much to its standard error before each answer: a line of 8 MiB, 20,000 lines, and its token."""

import os
from typing import Any

from rpc import answer, secret, serve, told

settings: dict[str, Any] = {}


def shout(data):
    while data:
        data = data[os.write(2, data) :]


def initialize(request):
    settings.update(request["params"]["config"])
    shout(f"the token is {settings['auth']['token']}\n".encode())
    shout(b"\x1b[31mred\x1b[0m and \xff\n")
    shout(b"DEBUG noisy: a detail\nDEBUGGING\n")
    answer(request, told())


def get(request):
    shout(b"y" * 8 * 1024 * 1024 + b"\n")
    shout(b"line\n" * 20_000)
    answer(request, secret(**request["params"]))


serve(initialize=initialize, get=get)
