#!/usr/bin/env python3
"""Closes its standard output (`stdout`) or input (`stdin`), and runs on."""

import os
import time

from rpc import answer, secret, serve


def get(request):
    path = request["params"]["path"]
    if path in ("stdin", "stdout"):
        os.close(["stdin", "stdout"].index(path))
        time.sleep(1000)
    answer(request, secret(path))


serve(get=get)
