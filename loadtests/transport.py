"""How does one request reach the shop, and what came of it?

Below Locust's FastHttpSession, on the HTTP client that it wraps: the session follows redirects by itself, measures from
the moment of sending, and its client resends an idempotent request as often as its pool has room (4,000 times against
a server that resets every connection). Here a request is sent once, and resent at most once, under the rule of Go's
net/http Transport: the connection ended before a byte of the answer, and the request is idempotent or carries an
Idempotency-Key. A server may close an idle connection at any time, so without that a rolling restart would look like
lost requests. Who resent a write no longer knows that nothing happened: `Reply.sends` tells.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

import gevent
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError

from workloads.client import Answer, Request, Trouble

CLIENT_TIMEOUT_S = 3.0
"""A user's patience, from sending to the last byte. A little above the longest SLO (1 s), so that a black hole shows
within seconds; Locust's default of 60 s would record nothing for a minute."""

SENDS_MAX = 2
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_NEVER_ARRIVED = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})


class NoSocket(Exception):
    """The generator has no socket left: nothing was sent, and the shop is not to blame."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request."""

    content: Answer | Trouble
    sends: int
    """How often it was sent, 1 or 2."""


class Transport:
    """Sends requests to one address over connections that are kept and reused."""

    def __init__(self, client: HTTPClient, timeout_s: float = CLIENT_TIMEOUT_S) -> None:
        """Takes `client` over: its own resending is switched off."""
        # its budget of attempts is the size of its pool plus one; the pool itself is bounded by a semaphore made before
        client._connection_pool.size = -1
        self._client = client
        self._timeout_s = timeout_s

    def exchange(self, request: Request) -> Reply:
        """Send and wait for the whole answer, at most `timeout_s`. Raises NoSocket; everything else is a Reply."""
        sends = 0
        timeout = gevent.Timeout.start_new(self._timeout_s)
        try:
            while True:
                sends += 1
                try:
                    return Reply(self._once(request), sends)
                except HTTPConnectionClosed:
                    if sends == SENDS_MAX or not _may_resend(request):
                        return Reply(Trouble(kind="broken", definite=False), sends)
                except HTTPParseError:
                    return Reply(Trouble(kind="broken", definite=False), sends)
                except TimeoutError:
                    return Reply(Trouble(kind="timeout", definite=False), sends)
                except OSError as error:
                    return Reply(_trouble(error, sends), sends)
        except gevent.Timeout as fired:
            if fired is not timeout:
                raise
            return Reply(Trouble(kind="timeout", definite=False), sends)
        finally:
            timeout.close()

    def _once(self, request: Request) -> Answer:
        response: Any = self._client.request(
            request.method, request.path, body=request.body, headers=dict(request.headers)
        )
        body = response.read()
        headers = {str(name).lower(): str(value) for name, value in response.items()}
        return Answer(status=response.status_code, headers=headers, body=bytes(body))


def _may_resend(request: Request) -> bool:
    return request.method in _IDEMPOTENT or any(name.lower() == "idempotency-key" for name in request.headers)


def _trouble(error: OSError, sends: int) -> Trouble:
    if error.errno in _EXHAUSTED and sends == 1:
        raise NoSocket(f"no socket: {error.strerror}") from error
    if error.errno in _NEVER_ARRIVED:
        return Trouble(kind="refused", definite=sends == 1)
    return Trouble(kind="broken", definite=False)
