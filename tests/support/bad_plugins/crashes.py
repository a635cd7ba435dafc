#!/usr/bin/env python3
"""Ends with exit code 3 when asked for `crash`, by SIGKILL when asked for `kill`; never answers `wait`."""

import os

from rpc import answer, secret, serve


def get(request):
    path = request["params"]["path"]
    if path == "crash":
        os._exit(3)
    if path == "kill":
        os.kill(os.getpid(), 9)
    if path != "wait":
        answer(request, secret(path))


serve(get=get)
