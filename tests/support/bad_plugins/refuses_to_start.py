#!/usr/bin/env python3
"""Answers `initialize` with what its settings say: `result`, or an `error`."""

from rpc import answer, refuse, serve


def initialize(request):
    config = request["params"]["config"]
    if "error" in config:
        refuse(request, config["error"], f"no good: {config.get('token', '')}")
    else:
        answer(request, config["result"])


serve(initialize=initialize)
