"""A network of a test's own, in which a metadata service may have its real address.

with OwnNetwork("169.254.169.254") as network:
    with HttpProxy("", listener=network.listen("169.254.169.254", 80)) as metadata, Plugin(network.inside(argv)):
        ...

Only loopback is there, so nothing inside reaches anything but what the test listens with. Servers stay in the
test's process: what is made inside and handed out is the listening socket.
"""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from tests.support.process import environment, reap

if TYPE_CHECKING:
    from collections.abc import Sequence

# Started inside: gives loopback its addresses (SIOCSIFADDR on lo:N, SIOCSIFFLAGS), then hands out a listening socket
# for each `ADDRESS PORT` that it is sent, until nobody can ask any more.
_HOLDER = """
import array, fcntl, socket, struct, sys
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def interface(name, request, content):
    fcntl.ioctl(control, request, struct.pack("16s", name.encode()) + content.ljust(24, b"\\0"))
for number, address in enumerate(["127.0.0.1", *sys.argv[2:]]):
    name = f"lo:{number}" if number else "lo"
    interface(name, 0x8916, struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(address)))
    interface(name, 0x8914, struct.pack("H", 0x49))
channel = socket.socket(fileno=int(sys.argv[1]))
channel.sendall(b"+")
while asked := channel.recv(100):
    address, port = asked.decode().split()
    with socket.create_server((address, int(port)), backlog=128) as listener:
        channel.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))])
"""


class OwnNetwork:
    """A network namespace with loopback and these addresses; use it in a `with`."""

    def __init__(self, *addresses: str) -> None:
        # Whoever is not root may have a network as the root of a user namespace of its own.
        self._user = [] if os.geteuid() == 0 else ["--map-root-user"]
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            holder = [sys.executable, "-I", "-c", _HOLDER, str(there.fileno()), *addresses]
            argv = ["unshare", *self._user, "--net", *holder]
            self._holder = subprocess.Popen(argv, pass_fds=[there.fileno()], env=environment())
        self._channel = here
        if self._channel.recv(1) != b"+":
            self._channel.close()
            reap(self._holder)
            raise AssertionError("there can be no network of one's own on this machine")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._channel.close()
        try:
            self._holder.wait(30)
        finally:
            reap(self._holder)

    def listen(self, address: str, port: int = 0) -> socket.socket:
        """A socket that listens inside; whoever gets it closes it."""
        self._channel.sendall(f"{address} {port}".encode())
        size = array.array("i").itemsize
        answer, ancillary, *_ = self._channel.recvmsg(1, socket.CMSG_SPACE(size))
        assert answer == b"+", f"cannot listen on {address}:{port}"
        (descriptor,) = array.array("i", ancillary[0][2])
        return socket.socket(fileno=descriptor)

    def inside(self, argv: Sequence[str]) -> list[str]:
        """A command line that runs another one inside, as the same process."""
        where = f"/proc/{self._holder.pid}/ns"
        user = [f"--user={where}/user", "--preserve-credentials"] if self._user else []
        return ["nsenter", *user, f"--net={where}/net", "--", *argv]
