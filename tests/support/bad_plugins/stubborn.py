#!/usr/bin/env python3
"""A program and one that it has started, which end for nothing but SIGKILL; the number of the second is every value."""

import os
import signal
import time

from rpc import answer, requests, told

signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if not child:
    while True:
        time.sleep(1000)
for request in requests():
    if request["method"] == "initialize":
        answer(request, told())
    elif request["method"] == "get":
        answer(request, {"text": str(child)})
while True:
    time.sleep(1000)
