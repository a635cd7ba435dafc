"""The first Python code the frozen binary runs: the boot loader executes it as it loads it.

The spec puts this module, and the few it imports, in front of PyInstaller's own bootstrap modules.
At this point only built-in and frozen modules can be imported, so these modules import no other
(nor `__future__`, which is a module too).
"""

import posix
import sys
from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

from dso.entry.lazy import install
from dso.entry.metadata import answer_and_exit

answer_and_exit(sys.argv)

# Until the launcher can deal with ^C it just ends the process; the boot loader would print a traceback.
if getsignal(SIGINT) is default_int_handler:
    signal(SIGINT, SIG_DFL)

# PyInstaller's bootstrap takes this variable away, and Compose files may ask for it.
VIRTUAL_ENV = posix.environ.get(b"VIRTUAL_ENV")

# The archive answers for all modules but the codecs, and it is asked through the last entry.
del sys.path[:-1]
install()
