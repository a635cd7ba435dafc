#!/bin/sh
# Make the virtual environment .venv, with what building, checking and testing need in it.
#
#   python.sh VENV REQUIREMENTS
#
# What pip fetches has to fit the hashes in REQUIREMENTS, and those in the file beside it for what has no wheel and is
# built here, with what REQUIREMENTS lists and nothing else. pip itself is the interpreter's own.
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

# The boot loader takes the interpreter in (build/bootloader); Debian packages what that takes separately.
has 'import os, sys, sysconfig as s
headers, library = s.get_path("include"), os.path.join(*s.get_config_vars("LIBPL", "LIBRARY"))
sys.exit(not all(map(os.path.exists, (os.path.join(headers, "Python.h"), library))))' ||
    apt_install "python3 comes without its header files and static library" \
        "libpython$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev"
command -v cc >/dev/null 2>&1 || apt_install "no C compiler" gcc libc6-dev

# It takes binaries apart and together with objdump, objcopy and strip.
command -v objcopy >/dev/null 2>&1 || apt_install "no objcopy" binutils

"$venv/bin/python" -m pip --version >/dev/null 2>&1 || python3 -m venv --clear "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
hashes_fit() { die "pip refuses to install, see above; \`make hashes\` is for versions that you changed yourself"; }
pip install --quiet --require-hashes --only-binary :all: -r "$requirements" || hashes_fit
pip install --quiet --require-hashes --no-deps --no-build-isolation --no-binary :all: \
    -r "${requirements%/*}/sdist-${requirements##*/}" || hashes_fit
