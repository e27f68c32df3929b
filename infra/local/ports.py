"""Which TCP port may the next listener have, and how does nobody else get it meanwhile?

A port is taken by binding it strictly, which fails if any socket on the machine holds it, also one
that another cloud reserved. Only then SO_REUSEADDR is set: from that moment a listener that sets it
too (every server here does) can bind the port beside the reservation, a strict bind still cannot.
The reservation is given up once the listener listens.

A cluster has a range of its own, for what runs in it and for what leads into it. Its first port is never listened on:
who holds that has the range, so that two clouds do not choose the same.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping

from infra.local.errors import Invalid, Unavailable

FIRST, LAST = 20000, 31999
"""Below the kernel's usual range for outgoing connections (32768-60999), which would take ports at random."""

VARIABLE = "STAGES_PORTS"

SLICE = 128
"""Ports of a cluster: one of the mesh takes some 40, twice as many while everything is replaced."""


def port_range(env: Mapping[str, str]) -> range:
    """The ports to use: STAGES_PORTS such as '20000-20999', or the default. Raise Invalid for nonsense."""
    text = env.get(VARIABLE) or f"{FIRST}-{LAST}"
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) <= 65535):
        raise Invalid(f"{VARIABLE} is {text!r}; give two ports from 1024 to 65535, such as '20000-20999'")
    return range(int(first), int(last) + 1)


def slices(allowed: range) -> list[range]:
    """The ranges that clusters may have, from the end of what is allowed; as many ports again are left for the rest.

    >>> [(s[0], s[-1]) for s in slices(range(20000, 20400))]
    [(20272, 20399), (20144, 20271)]
    """
    end = len(allowed)
    return [allowed[end - (n + 1) * SLICE : end - n * SLICE] for n in range(end // SLICE - 1)]


class Ports:
    """Reservations of this process; ports on 127.0.0.1 only."""

    def __init__(self, allowed: range) -> None:
        self._allowed = allowed
        self._next: dict[range, int] = {}
        self._held: dict[int, socket.socket] = {}
        self._claimed: list[range] = []

    def claim(self, wanted: range | None = None) -> range | None:
        """A range for one cluster, or that which it has had. None if there is none that nobody has."""
        there = slices(self._allowed)
        start = os.getpid() % len(there) if there else 0  # the ports of a cloud that has just gone may be in TIME_WAIT
        for found in [wanted] if wanted is not None else [*there[start:], *there[:start]]:
            if found not in self._claimed and (self._bind(found[0], strict=True) or wanted is not None):
                self._claimed.append(found)
                return found
        return None

    def give_back(self, claimed: range) -> None:
        """The cluster is gone; unknown ranges are fine."""
        if claimed in self._claimed:
            self._claimed.remove(claimed)
            self.release(claimed[0])

    def reserve(self, taken: Iterable[int] = (), within: range | None = None) -> int:
        """A port that nobody has and that is not in `taken`, from a cluster's range or from none.

        Raise Unavailable if there is none left.
        """
        among = within if within is not None else self._allowed
        excluded = set(taken) | self._held.keys()
        if within is None:
            excluded |= {port for claimed in self._claimed for port in claimed}
        for _ in among:
            port = among[self._next.get(among, 0) % len(among)]
            self._next[among] = self._next.get(among, 0) + 1
            if port not in excluded and self._bind(port, strict=True):
                return port
        whose = ", the range of one cluster" if within is not None else ""
        raise Unavailable(
            f"no free port between {among[0]} and {among[-1]} on 127.0.0.1{whose}: "
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
