"""Which TCP port may the next listener have, and how does nobody else get it meanwhile?

A port is taken by binding it strictly, which fails if any socket on the machine holds it, also one
that another cloud reserved. Only then SO_REUSEADDR is set: from that moment a listener that sets it
too (every server here does) can bind the port beside the reservation, a strict bind still cannot.
The reservation is given up once the listener listens.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from infra.local.errors import Invalid, Unavailable

FIRST, LAST = 20000, 31999
"""Below the kernel's usual range for outgoing connections (32768-60999), which would take ports at random."""

VARIABLE = "STAGES_PORTS"


def port_range(env: Mapping[str, str]) -> range:
    """The ports to use: STAGES_PORTS such as '20000-20999', or the default. Raise Invalid for nonsense."""
    text = env.get(VARIABLE) or f"{FIRST}-{LAST}"
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) <= 65535):
        raise Invalid(f"{VARIABLE} is {text!r}; give two ports from 1024 to 65535, such as '20000-20999'")
    return range(int(first), int(last) + 1)


class Ports:
    """Reservations of this process; ports on 127.0.0.1 only."""

    def __init__(self, allowed: range) -> None:
        self._allowed = allowed
        self._next = 0
        self._held: dict[int, socket.socket] = {}

    def reserve(self, taken: Iterable[int] = ()) -> int:
        """A port that nobody has and that is not in `taken`. Raise Unavailable if there is none in the range."""
        excluded = set(taken) | self._held.keys()
        for _ in self._allowed:
            port = self._allowed[self._next % len(self._allowed)]
            self._next += 1
            if port not in excluded and self._bind(port, strict=True):
                return port
        raise Unavailable(
            f"no free port between {self._allowed[0]} and {self._allowed[-1]} on 127.0.0.1: "
            f"end another deployment (`stages down`) or set {VARIABLE}"
        )

    def hold(self, port: int) -> bool:
        """Reserve a port whose listener has just ended; False if somebody listens there."""
        return port in self._held or self._bind(port, strict=False)

    def release(self, port: int) -> None:
        """Give up a reservation; unknown ports are fine."""
        held = self._held.pop(port, None)
        if held is not None:
            held.close()

    def _bind(self, port: int, *, strict: bool) -> bool:
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if not strict:  # its old connections may still be in TIME_WAIT
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", port))
        except OSError:
            holder.close()
            return False
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held[port] = holder
        return True
