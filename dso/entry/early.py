"""The first Python code the frozen binary runs: the boot loader executes it as it loads it.

The spec puts this module, and the few it imports, in front of PyInstaller's own bootstrap modules.
At this point only built-in and frozen modules can be imported, so these modules import no other.
"""

import sys

from dso.entry.lazy import install
from dso.entry.metadata import answer_and_exit

answer_and_exit(sys.argv)
install()
