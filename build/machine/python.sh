#!/bin/sh
# Make the virtual environment .venv, with what building, checking and testing need in it.
#
#   python.sh VENV REQUIREMENTS
#
# Uses the `python3` of PATH (3.11 or newer). On Debian, as root, it installs what is missing.
set -eu
. "$(dirname "$0")/debian.sh"

venv=$1
requirements=$2

has() { python3 -c "$1" >/dev/null 2>&1; }

command -v python3 >/dev/null 2>&1 || apt_install "no python3 on PATH" python3
has 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "python3 is $(python3 -V 2>&1 | cut -d' ' -f2), and DSO needs 3.11 or newer: put one first on PATH"
has 'import venv, ensurepip' || apt_install "python3 cannot make virtual environments" python3-venv

# PyInstaller binds the interpreter in as a shared library; Debian packages it separately.
has 'import os, sys, sysconfig as s
found = s.get_config_vars("LIBDIR", "INSTSONAME")
multiarch = s.get_config_var("MULTIARCH") or ""
sys.exit(not any(os.path.exists(os.path.join(found[0], part, found[1])) for part in ("", multiarch)))' ||
    apt_install "python3 comes without its shared library" \
        "libpython$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

# It takes binaries apart and together with objdump, objcopy and strip.
command -v objcopy >/dev/null 2>&1 || apt_install "no objcopy" binutils

"$venv/bin/python" -m pip --version >/dev/null 2>&1 || python3 -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
