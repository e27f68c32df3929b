"""How do tests get a real Kafka? One broker of Apache's own jars on this machine, alone its own quorum.

Maven fetches the jars once (44 MB) to the user's cache, and beside them goes what makes a start quick: a formatted
directory, and Java's archive of loaded classes. Where that cannot be, `NoKafka` says why. The process dies with whoever
started it, and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from workloads.broker.conformance import EVENT, MAX_RECEIVES, OTHER, VISIBILITY_S, Lab
from workloads.broker.kafka import KafkaBroker
from workloads.settings import Kafka, KafkaInbound
from workloads.testing_processes import free_ports

FETCH_WITHIN_S = 240
READY_WITHIN_S = 60.0
CREATED_WITHIN_S = 30
PARTITIONS = 3
ARCHIVE, FORMATTED = "classes.jsa", "formatted"
FLAGS = ("-Xmx96m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
"""A short life needs no thorough compiler."""
DYING_WITH_PARENT = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""PR_SET_PDEATHSIG and SIGKILL: what Java is started by, so that no broker outlives an aborted test."""
CLUSTER = "c3RhZ2VkLWRlY291cGxpbg"
"""16 bytes in base64; any will do."""

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{control}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
log.segment.bytes=16777216
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=4
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""
"""The cleaner's buffer would be larger than the heap. The session decides how long a killed broker's place is taken,
and for how long a busy machine may keep a living one from saying so."""


class NoKafka(Exception):
    """Here no broker can be run; the message says what is missing."""


class KafkaProcess:
    """A broker that can be killed and started again."""

    def __init__(self, jars: Path, folder: Path, *, archive: str = "SharedArchiveFile") -> None:
        """`folder`: of its data. `archive`: what to do with the archive of classes. Nothing runs before `start`."""
        self._port, control = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._properties = folder / "server.properties"
        self._properties.write_text(PROPERTIES.format(port=self._port, control=control, data=folder / "data"))
        self._classes = ["-cp", ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))]
        self._archive = f"-XX:{archive}={jars / ARCHIVE}"
        self._log = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        if (jars / FORMATTED).is_dir():
            shutil.copytree(jars / FORMATTED, folder / "data")

    def format(self, template: Path) -> None:
        """Make its directory, and a copy for others: none of it says whose it is."""
        words = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(self._properties)]
        subprocess.run(
            ["java", *FLAGS, *self._classes, *words], check=True, capture_output=True, timeout=READY_WITHIN_S
        )
        shutil.copytree(self._properties.parent / "data", template)

    def start(self) -> None:
        """Return once it answers. Raise AssertionError with its log."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Not on a thread that ends: to the kernel that is the parent."""
        with self._log.open("ab") as log:
            words = ["java", *FLAGS, self._archive, *self._classes, "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen([*DYING_WITH_PARENT, *words], stdout=log, stderr=log)

    def wait_ready(self) -> None:
        """Return once it answers. Raise AssertionError with its log."""
        assert self._process is not None, "launch comes first"
        until = time.monotonic() + READY_WITHIN_S
        probe = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            assert self._process.poll() is None, f"the broker has ended: {self._log.read_text()[-2000:]}"
            assert time.monotonic() < until, f"the broker does not answer: {self._log.read_text()[-2000:]}"
            try:
                if probe.list_topics(timeout=0.5).brokers:
                    return
            except KafkaException:
                continue

    def kill(self) -> None:
        """As a crash does; what it has is on disk, or in the machine's memory."""
        self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        """Send a signal; after one that ends it, wait."""
        assert self._process is not None, "start comes first"
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait()

    def create(self, *topics: str, partitions: int = PARTITIONS) -> None:
        """Make topics. Raise KafkaException."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        for made in admin.create_topics([NewTopic(name, partitions, 1) for name in topics]).values():
            made.result(CREATED_WITHIN_S)

    def lag(self, group: str, topics: Mapping[str, int]) -> int:
        """Records of topics (with their number of partitions) that a group has not committed."""
        looking = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})
        try:
            places = [TopicPartition(name, n) for name, count in topics.items() for n in range(count)]
            ends = [looking.get_watermark_offsets(place, timeout=5)[1] for place in places]
            done = looking.committed(places, timeout=5)
        finally:
            looking.close()
        return sum(end - max(0, place.offset) for end, place in zip(ends, done, strict=True))


def jars(pom: Path) -> Path:
    """The folder of what a pom names; fetched unless it is there. Raise NoKafka."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise NoKafka(f"{tool} is not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "staged-decoupling"
    found = cache / f"kafka-{sha256(pom.read_bytes()).hexdigest()[:12]}"
    if not (found / FORMATTED).is_dir():  # made last
        found.mkdir(parents=True, exist_ok=True)
        with (found / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be at it
            if not (found / FORMATTED).is_dir():
                _fetch(pom, found)
                _prepare(found)
    return found


def _fetch(pom: Path, jars: Path) -> None:
    command = ["mvn", "-B", "-ntp", "-q", "-f", str(pom), f"-Dlib={jars}", "package"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_WITHIN_S)
    except subprocess.SubprocessError as error:
        said = getattr(error, "stdout", "") or str(error)
        raise NoKafka(f"Maven did not fetch Kafka's jars: {str(said).strip()[:300]}") from error


def _prepare(jars: Path) -> None:
    """A first life, at whose end Java writes down what it has loaded."""
    with TemporaryDirectory(prefix="kafka-") as folder:
        first = KafkaProcess(jars, Path(folder), archive="ArchiveClassesAtExit")
        first.format(Path(folder, "template"))
        try:
            first.start()
            first.create("first")
        finally:
            first.send(signal.SIGTERM)
        shutil.copytree(Path(folder, "template"), jars / "unfinished", dirs_exist_ok=True)
        (jars / "unfinished").rename(jars / FORMATTED)


@contextmanager
def kafka_process(pom: Path) -> Iterator[KafkaProcess]:
    """A running broker, until the block ends. Raise NoKafka."""
    with TemporaryDirectory(prefix="kafka-") as folder:
        process = KafkaProcess(jars(pom), Path(folder))
        try:
            process.start()
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def opened_kafka(bootstrap: str, inbound: KafkaInbound | None = None) -> AsyncIterator[KafkaBroker]:
    """An adapter, ready for use."""
    broker = KafkaBroker(Kafka(bootstrap=bootstrap, inbound=inbound))
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


def read_by(group: str, topics: Mapping[str, tuple[str, ...]], dead_letters: str, *, ordered: bool) -> KafkaInbound:
    """How a lab's broker reads topics."""
    return KafkaInbound(
        group=group,
        topics=topics,
        dead_letters=dead_letters,
        ordered=ordered,
        visibility_timeout_s=VISIBILITY_S,
        max_receives=MAX_RECEIVES,
    )


@asynccontextmanager
async def kafka_lab(process: KafkaProcess, prefix: str = "lab") -> AsyncIterator[Lab]:
    """A lab on a real broker: a topic for each queue, and one for events that readers of both subscribe to."""
    names = ("plain", "ordered", "events", "plain-dead-letters", "ordered-dead-letters")
    plain, ordered, events, dead, dead_ordered = (f"{prefix}-{name}" for name in names)
    process.create(plain, ordered, events, dead, dead_ordered)
    reading = (
        read_by(plain, {plain: (), events: (EVENT,)}, dead, ordered=False),
        read_by(ordered, {ordered: (), events: (EVENT, OTHER)}, dead_ordered, ordered=True),
        read_by(dead, {dead: ()}, dead, ordered=False),
        read_by(dead_ordered, {dead_ordered: ()}, dead_ordered, ordered=True),
    )
    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(opened_kafka(process.bootstrap, each)) for each in reading]
        yield Lab(
            plain=plain,
            fifo=ordered,
            topic=events,
            of_plain=brokers[0],
            of_fifo=brokers[1],
            of_plain_dead=brokers[2],
            of_fifo_dead=brokers[3],
            refused="x" * 2_000_000,
        )
