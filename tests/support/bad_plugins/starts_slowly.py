#!/usr/bin/env python3
"""Takes its time for `initialize`: the seconds in its settings."""

import time

from rpc import answer, serve, told


def initialize(request):
    time.sleep(request["params"]["config"]["seconds"])
    answer(request, told())


serve(initialize=initialize)
