"""The broker's suite, in memory and on the embedded broker."""

from __future__ import annotations

import pytest

from workloads.broker.conformance import check_broker
from workloads.broker.testing import broker_process, memory_lab, queues_at, sqs_lab
from workloads.broker.virtual import run_virtual
from workloads.testing_processes import free_ports


def test_broker_in_memory() -> None:
    run_virtual(check_broker(memory_lab))


@pytest.mark.slow
async def test_broker_over_sqs_and_sns() -> None:
    with broker_process(free_ports(1)[0]) as broker:
        async with queues_at(broker.endpoint) as queues:
            await check_broker(lambda: sqs_lab(queues))
