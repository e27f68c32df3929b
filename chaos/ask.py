"""One request, and how it ended: the means of every look at a fault. It never raises what a network does."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

SILENCE_S = 0.6
"""Who does not answer for this long is called silent; a healthy service takes milliseconds."""

BODY_MAX = 16384
"""Bytes of an answer that are kept; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one look saw."""

    bites: bool
    said: str
    """'payments at 127.0.0.1:4102 refuses connections'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How a request ended."""

    end: str
    """'answered', 'refused', 'reset' or 'silent'."""
    took_s: float
    read_bytes: int = 0
    status: int = 0
    """HTTP status; 0 without an answer."""
    body: bytes = b""
    """Its first BODY_MAX bytes."""


def ask(
    url: str,
    *,
    timeout_s: float,
    path: str = "/live",
    for_s: float | None = None,
    post: tuple[Mapping[str, str], bytes] | None = None,
) -> Reply:
    """GET, or POST of these headers and body; at most `timeout_s` of silence and, if given, `for_s` in all."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    start, read, status, body = time.monotonic(), 0, 0, b""

    def ended(end: str) -> Reply:
        return Reply(end=end, took_s=time.monotonic() - start, read_bytes=read, status=status, body=body)

    try:
        headers, sent = post or ({}, None)
        connection.request("POST" if post else "GET", path, sent, {"Connection": "close", **headers})
        answer = connection.getresponse()
        status = answer.status
        while piece := answer.read1(4096):
            read += len(piece)
            body = (body + piece)[:BODY_MAX]
            if for_s is not None and time.monotonic() - start > for_s:
                break
    except ConnectionRefusedError:
        return ended("refused")
    except TimeoutError:
        return ended("silent")
    except (OSError, http.client.HTTPException):
        return ended("reset")
    finally:
        connection.close()
    return ended("answered")


def ends(what: str, url: str, end: str) -> Sight:
    """Whether a request to /live ends in this way."""
    return ended(what, url, ask(url, timeout_s=SILENCE_S), end)


def ended(what: str, where: str, reply: Reply, end: str) -> Sight:
    """Whether what was asked ended in this way."""
    verb = {
        "answered": "answers",
        "refused": "refuses connections",
        "reset": "resets connections",
        "silent": "is silent",
    }
    return Sight(bites=reply.end == end, said=f"{what} at {where} {verb[reply.end]} ({reply.took_s * 1000:.0f} ms)")
