#!/usr/bin/env python3
"""Reads nothing any more when asked for `hang`."""

import time

from rpc import answer, secret, serve


def get(request):
    if request["params"]["path"] == "hang":
        time.sleep(1000)
    answer(request, secret(**request["params"]))


serve(get=get)
