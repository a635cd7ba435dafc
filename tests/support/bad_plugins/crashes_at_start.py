#!/usr/bin/env python3
"""Ends before it has said anything. With the file `heal` beside it it works."""

import os
import sys

from rpc import serve

with open(f"{os.path.dirname(__file__)}/starts", "a", encoding="utf-8") as starts:
    starts.write("x")
if not os.path.exists(f"{os.path.dirname(__file__)}/heal"):
    sys.exit("cannot start")
serve()
