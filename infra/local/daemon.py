"""The local cloud's process: one per home, started by the first client, gone when nothing is deployed.

    python -m infra.local.daemon HOME

It may be killed at any moment: what it runs goes on, and the next one takes over from the state on disk.
SIGTERM ends it the same way, leaving everything deployed as it is.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import sys
import time

import uvicorn

from infra.local.api import Api
from infra.local.cloud import Cloud
from infra.local.errors import CloudError
from infra.local.home import Home
from infra.local.ports import Ports, port_range
from infra.local.processes import Reaper

IDLE_S = 2.0
"""Grace between the last request with nothing deployed and the end of the process."""

LOCK_WAIT_S = 5.0
"""How long a predecessor may take to leave."""

log = logging.getLogger("stages.cloud")


def lock(home: Home) -> int | None:
    """Become the only daemon of this home; None if another is. The lock ends with the process."""
    fd = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                return None
            time.sleep(0.02)
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def listen(home: Home) -> socket.socket:
    """The API's socket. Only the holder of the lock may call this: it replaces a dead daemon's."""
    home.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(home.socket))
    listener.listen(128)
    return listener


async def serve(home: Home) -> None:
    """Adopt what runs, answer until there is nothing left to run."""
    reaper = Reaper()
    reaper.start()
    cloud = Cloud(home, Ports(port_range(os.environ)), reaper)
    await cloud.adopt()
    last = time.monotonic()

    def touch() -> None:
        nonlocal last
        last = time.monotonic()

    config = uvicorn.Config(
        Api(cloud, touch).application(),
        loop="asyncio",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listen(home)]))
    while not running.done():
        await asyncio.wait([running], timeout=0.2)
        if cloud.empty and not server.server_state.tasks and time.monotonic() - last > IDLE_S:
            server.should_exit = True
    home.socket.unlink(missing_ok=True)
    await running


def main(argv: list[str]) -> int:
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    home = Home.at(argv[0])
    try:
        home.create()
        held = lock(home)
        if held is None:
            log.info("another daemon serves %s", home.path)
            return 0
        os.chdir(home.path)
        log.info("serving %s", home.path)
        asyncio.run(serve(home))
        log.info("nothing is deployed: leaving")
    except CloudError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
