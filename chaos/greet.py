"""One TLS greeting, and how it ended: a look at a place where nothing else is answered. It never raises what a network
does.

Between sidecars nobody speaks who cannot show a certificate; but whoever listens there shows its own to anybody who
asks, and with TLS 1.3 before it wants to see the other's. The greeting ends there: no request is made.
"""

from __future__ import annotations

import socket
import ssl
import time

from chaos.ask import Reply


def greet(address: str, *, server_name: str, timeout_s: float, for_s: float | None = None) -> Reply:
    """Connect to host:port and ask for `server_name`; at most `timeout_s` of silence and, if given, `for_s` in all.

    The body of an answer is the certificate that was shown (DER); nobody checks it. `read_bytes` is what came.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(heard, said, server_hostname=server_name)
    start, read = time.monotonic(), 0

    def ended(end: str, body: bytes = b"") -> Reply:
        return Reply(end=end, took_s=time.monotonic() - start, read_bytes=read, body=body)

    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
            while not _done(tls):
                if sending := said.read():
                    connection.sendall(sending)
                piece = connection.recv(4096)
                if not piece:
                    return ended("reset")
                read += len(piece)
                heard.write(piece)
                if for_s is not None and time.monotonic() - start > for_s:
                    return ended("answered")
            return ended("answered", tls.getpeercert(binary_form=True) or b"")
    except ConnectionRefusedError:
        return ended("refused")
    except TimeoutError:
        return ended("silent")
    except OSError:  # ssl.SSLError is one
        return ended("reset")


def _done(tls: ssl.SSLObject) -> bool:
    """Go on with the greeting as far as what was heard allows."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
