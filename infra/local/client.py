"""How does everybody else talk to the local cloud? A synchronous client that starts the daemon when there is none.

Every request of the API may be repeated, so a request whose daemon was killed is sent again to the next one,
which has taken over what runs.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any

import httpx

from infra.local.errors import CloudError, CloudUnreachable
from infra.local.home import PROTOCOL, Home, tail
from infra.local.processes import describe_status, identify, spawn, state_of

START_S = 20.0
"""Longest start of the daemon, and longest wait for one that is leaving."""

ANSWER_S = 120.0
"""Longest answer: a cluster that starts on a busy machine, a rollover that drains."""

RESENDS = 3

LOG_LIMIT = 1 << 20
"""The daemon's log is begun anew above this size, bytes."""


class LocalCloud:
    """A client of the local cloud of one home; may be used by several threads."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._daemons: list[int] = []
        # verify=False: nothing is encrypted on a unix socket, and loading certificates costs 20 ms
        transport = httpx.HTTPTransport(uds=str(home.socket), verify=False, limits=httpx.Limits(max_connections=64))
        self._http = httpx.Client(
            transport=transport,
            base_url="http://local-cloud",
            timeout=httpx.Timeout(ANSWER_S, connect=5.0),
        )

    def close(self) -> None:
        """Close the connections; what is deployed stays."""
        self._http.close()
        for pid in list(self._daemons):
            self._collect(pid)

    def __enter__(self) -> LocalCloud:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def blank(self) -> bool:
        """Whether nothing can be deployed here: no daemon runs and no state is on disk. Starts nothing."""
        return not self.home.socket.exists() and not (
            self.home.deployments.is_dir() and any(self.home.deployments.iterdir())
        )

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def put(self, path: str, body: Mapping[str, object]) -> Any:
        return self.request("PUT", path, body)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        return self.request("POST", path, body)

    def delete(self, path: str) -> Any:
        return self.request("DELETE", path)

    def request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send one request and return the answer's JSON.

        Raise the CloudError that the daemon answered with, or CloudUnreachable: then it is not known
        whether the request took effect, and it may be repeated.
        """
        for _ in range(RESENDS):
            self._wake()
            if not self._listened_to:
                self.ensure()
            try:
                response = self._http.request(method, path, json=body)
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                continue  # it was killed, or is just leaving
            except httpx.TimeoutException as error:
                raise CloudUnreachable(f"the local cloud did not answer {method} {path}: {self._excuse()}") from error
            return self._read(response)
        raise CloudUnreachable(
            f"the local cloud ended {RESENDS} times while it worked on {method} {path}; log: {self.home.log}"
        )

    def ensure(self) -> None:
        """Have a daemon that answers. Raise CloudUnreachable, or Invalid if the home cannot be used."""
        self.home.create()
        deadline = time.monotonic() + START_S
        started: int | None = None
        while not self._healthy():
            status = self._collect(started) if started else 0
            if status:
                raise CloudUnreachable(self._why_not(f"it {describe_status(status)}"))
            if started is None or status is not None:
                started = self._start()
            if time.monotonic() > deadline:
                raise CloudUnreachable(self._why_not(f"it does not answer after {START_S:g} s; {self._excuse()}"))
            time.sleep(0.02)

    @property
    def _listened_to(self) -> bool:
        """Whether a daemon listens. Asked before httpx connects, which would leave a failed socket open."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5.0)
            try:
                probe.connect(str(self.home.socket))
            except OSError:
                return False
        return True

    def _healthy(self) -> bool:
        if not self._listened_to:
            return False
        try:
            health = self._http.get("/health", timeout=5.0).json()
        except (httpx.TransportError, ValueError):
            return False
        if health.get("protocol") != PROTOCOL:
            raise CloudUnreachable(
                f"the local cloud in {self.home.path} (process {health.get('pid')}) is of another version "
                f"(protocol {health.get('protocol')}, not {PROTOCOL}); end its deployments with the release that "
                f"started it, or end that process and try again"
            )
        return True

    def _start(self) -> int:
        if self.home.log.exists() and self.home.log.stat().st_size > LOG_LIMIT:
            self.home.log.unlink()
        pid = spawn(["-m", "infra.local.daemon", str(self.home.path)], {}, self.home.log).pid
        self._daemons.append(pid)
        return pid

    def _collect(self, pid: int) -> int | None:
        """Exit status of a daemon that we started, None while it lives."""
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if not done:
            return None
        self._daemons.remove(pid)
        return os.waitstatus_to_exitcode(status)

    def _read(self, response: httpx.Response) -> Any:
        try:
            answer = response.json()
        except ValueError as error:
            raise CloudUnreachable(f"the local cloud answered no JSON: {response.text[:200]!r}") from error
        if response.is_success:
            return answer
        raise CloudError.of_status(response.status_code, answer.get("error", ""), answer.get("problems", ()))

    def _daemon_pid(self) -> int | None:
        try:
            text = self.home.lock.read_text(encoding="ascii").strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None

    def _wake(self) -> None:
        """Continue a daemon that somebody stopped."""
        pid = self._daemon_pid()
        process = identify(pid) if pid else None
        if process is None or state_of(process) != "T":
            return
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        if b"infra.local.daemon" in words and os.fsencode(self.home.path) in words:
            os.kill(process.pid, signal.SIGCONT)

    def _excuse(self) -> str:
        return f"daemon process {self._daemon_pid()}; log: {self.home.log}"

    def _why_not(self, reason: str) -> str:
        said = "\n".join(f"    {line}" for line in tail(self.home.log, 15))
        return f"the local cloud could not be started: {reason}; last lines of {self.home.log}:\n{said}"
