#!/bin/bash
# Compile the boot loader with the release interpreter in it, for the machines that releases are for.
#
#   boot_loader.sh PYTHON OUTPUT
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=build/release/common.sh
. "$here/common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
use_compiler "$here/.."
PATH=$here:$PATH CC=zcc.sh "$here/../bootloader/compile.sh" "$@"
