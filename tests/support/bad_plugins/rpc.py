"""What the plugins in this directory share: just enough of the protocol to break it in one place each."""

import json
import os
import sys

sys.dont_write_bytecode = True


def requests():
    """The requests, as they come; the end of the input ends the plugin."""
    while line := sys.stdin.buffer.readline():
        yield json.loads(line)


def send(raw):
    """Write bytes as they are."""
    data = raw if isinstance(raw, bytes) else raw.encode()
    while data:
        data = data[os.write(1, data) :]


def answer(request, result):
    send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n")


def refuse(request, code, message, number=-32000, **data):
    error = {"code": number, "message": message, "data": {"code": code, **data}}
    send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}) + "\n")


def told(batch=0, protocol=1):
    return {"protocol": protocol, "provider": "test", "version": "0.1", "capabilities": {"get_many": batch}}


def secret(path, version=None):
    return {"text": f"value of {path}", "version": version or "7"}


def serve(**methods):
    """Answer properly, but for the methods given; `get_many` of its default is as `get`."""
    for request in requests():
        method = request["method"]
        if method in methods:
            methods[method](request)
        elif method == "initialize":
            answer(request, told())
        elif method == "get":
            answer(request, secret(**request["params"]))
        elif method == "shutdown":
            answer(request, {})
            return
        elif method == "check":
            answer(request, {})
        else:
            refuse(request, "invalid_request", "no such method", number=-32601)
