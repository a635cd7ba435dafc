#!/bin/bash
# Compile CPython for the release: a static library, as the boot loader takes it in, with the modules a command needs
# inside it.
#
#   cpython.sh SOURCE LIBRARIES RESULT
#
# interpreter.sh calls this, and sets up the compiler.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=build/release/common.sh
. "$here/common.sh"

source=$1 libraries=$2 result=$3

# In the library: what docker-dso imports on most ways, and small ones of the daemons'.
inside="array _asyncio _bisect _blake2 _contextvars _csv _datetime _heapq _json _md5 _opcode _pickle _posixsubprocess
    _queue _random _sha1 _sha2 _sha3 _socket _statistics _struct binascii fcntl grp math resource select
    termios zlib"
# Not at all: what DSO and what it imports can do without. hashlib has its own code for what _hashlib would take from a
# second copy of libcrypto.
without="_bz2 _curses _curses_panel _dbm _gdbm _hashlib _interpchannels _interpqueues _interpreters _lsprof _lzma _sqlite3
    _testbuffer _testcapi _testclinic _testclinic_limited _testexternalinspection _testimportmultiple
    _testinternalcapi _testlimitedcapi _testmultiphase _testsinglephase _tkinter _uuid _xxtestfuzz nis ossaudiodev
    readline xxlimited xxlimited_35"

export PATH=$here:$PATH CC=zcc.sh CXX=false AR=ar RANLIB=ranlib OPT="-DNDEBUG -fwrapv -O3"
export CFLAGS_NODIST=-fPIE # extension modules add their -fPIC behind it
export ZLIB_CFLAGS="-I$libraries/usr/include" ZLIB_LIBS="$libraries/usr/lib/libz.a"
export LIBFFI_CFLAGS="-I$libraries/usr/include" LIBFFI_LIBS="$libraries/usr/lib/libffi.a"
export LIBEXPAT_CFLAGS="-I$libraries/usr/include" LIBEXPAT_LDFLAGS="$libraries/usr/lib/libexpat.a"

# The prefix is not where it will be: it finds itself by way of where its executable is.
cd "$source"
./configure -q --prefix=/usr/local --without-doc-strings --disable-test-modules --without-readline \
    --without-ensurepip --with-system-libmpdec=no --with-system-expat --with-openssl="$libraries/usr"
{
    echo '*static*'
    for module in $inside; do
        grep -E "^$module " Modules/Setup.stdlib || { echo "no module $module" >&2 && exit 1; }
    done
    echo '*disabled*'
    # shellcheck disable=SC2086  # a list of names
    echo $without
} >Modules/Setup.local
make Makefile
make -j"$(nproc)"
make install DESTDIR="$source/installed"
mv "$source/installed/usr/local" "$result"
# what the static library is linked with: see build/bootloader/compile.sh
cp Modules/_hacl/libHacl_Hash_SHA2.a "$libraries/usr/lib/libz.a" "$result"/lib/python3.13/config-3.13-*/

# PEP 600's way to tell pip which wheels fit: none that is for a newer glibc than releases are.
cat >"$result/lib/python3.13/_manylinux.py" <<PYTHON
def manylinux_compatible(major, minor, arch):
    return (major, minor) <= (${glibc/./, })
PYTHON
"$result/bin/python3.13" -c 'import ssl, hashlib, hmac, ctypes, decimal, pyexpat, unicodedata, zlib, asyncio'
