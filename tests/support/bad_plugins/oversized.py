#!/usr/bin/env python3
"""Answers with more than a message may have.

`first`: one line of 6 MiB, `id` first. `last`: `id` last. `endless`: a line without an end.
`values`: 3 MiB of numbers in a member that nobody asked for, `id` first. `values-last`: the same, `id` last.
`exact`: one of exactly 4 MiB, which is allowed. A `get_many` of several is as `first`.
"""

import json

from rpc import answer, secret, send, serve, told

MIB = 1024 * 1024


def get(request):
    path, number = request["params"]["path"], request["id"]
    head = f'{{"jsonrpc":"2.0","id":{number},"result":{{"text":"'
    if path == "first":
        send(head + "x" * 6 * MIB + '"}}\n')
    elif path == "last":
        send('{"result":{"text":"' + "x" * 6 * MIB + f'"}},"jsonrpc":"2.0","id":{number}}}\n')
    elif path == "values":
        send(f'{{"jsonrpc":"2.0","id":{number},"pad":[' + "1," * (MIB * 3 // 2) + '1],"result":{"text":"x"}}\n')
    elif path == "values-last":
        send('{"pad":[' + "1," * (MIB * 3 // 2) + f'1],"result":{{"text":"x"}},"jsonrpc":"2.0","id":{number}}}\n')
    elif path == "commas":
        send(head + "1,[" * MIB + '"}}\n')
    elif path == "endless":
        send(head)
        while True:
            send("x" * MIB)
    elif path == "exact":
        send(head + "x" * (4 * MIB - len(head) - 4) + '"}}\n')
    elif path != "wait":
        answer(request, secret(path))


def get_many(request):
    if len(request["params"]["requests"]) > 2:
        send(f'{{"jsonrpc":"2.0","id":{request["id"]},"result":{{"results":[' + "1," * 3 * MIB + "1]}}\n")
        return
    error = {"code": -32000, "message": "no room", "data": {"code": "invalid_request", "oversized": True}}
    first = request["params"]["requests"][0]
    send(
        json.dumps(
            {
                "jsonrpc": "2.0",
                "id": request["id"],
                "result": {"results": [{"secret": secret(**first)}, {"error": error}]},
            }
        )
        + "\n"
    )


def initialize(request):
    answer(request, told(batch=request["params"]["config"].get("batch", 0)))


serve(initialize=initialize, get=get, get_many=get_many)
