"""What the binaries of the agent and of the providers' plugins have in common: they start once and run for long."""

# Looked up by name when a host name is resolved (idna), a file begins with a mark, or a header is not ASCII.
CODECS = ("encodings.idna", "encodings.iso8859_1", "encodings.utf_8_sig")

# Occasional imports of the standard library's and of others', for what no daemon does.
EXCLUDES = [
    *["tkinter", "turtle", "idlelib", "lib2to3", "distutils", "ensurepip", "venv", "test", "unittest", "doctest"],
    *["pdb", "bdb", "cmd", "code", "codeop", "pydoc", "pydoc_data", "readline", "rlcompleter", "curses", "_curses"],
    *["multiprocessing", "concurrent.futures.process", "sqlite3", "dbm", "xmlrpc", "ftplib", "smtplib", "webbrowser"],
    *["setuptools", "pkg_resources", "pip", "PyInstaller", "pytest", "_pytest", "mypy", "hypothesis"],
    *["OpenSSL", "cryptography", "brotli", "brotlicffi", "zstandard", "socks", "h2", "js", "pyodide", "simplejson"],
    "certifi",  # dso.entry.daemon stands in for it
    # for other systems, servers and interpreters
    *["asyncio.windows_events", "asyncio.windows_utils", "dateutil.tz.win", "encodings.mbcs", "nturl2path"],
    *["urllib3.contrib.emscripten", "urllib3.contrib.pyopenssl", "urllib3.http2.connection", "aiohttp.worker"],
    *["botocore.crt.auth"],
]
