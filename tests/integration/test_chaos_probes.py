"""Probes for experiments of one's own say how many messages wait and how many are dead, or why that cannot be said."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaoslib.exceptions import ActivityFailed

from chaos import probes
from chaos.lease import CloudError
from chaos.testing import FakeCloud, serving


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeCloud]:
    with tempfile.TemporaryDirectory(prefix="p-") as home, serving(Path(home), stage="async") as cloud:
        cloud.depths.update({"payments-commands": 3, "orders-replies": 2, "email-events-dlq": 1})
        yield cloud


def test_the_depth_of_a_queue_and_of_all_that_services_read(fake) -> None:
    assert probes.queue_depth(str(fake.record), "payments-commands") == 3
    assert probes.queue_depth(str(fake.record)) == 5


def test_dead_letters_of_a_queue_and_of_all(fake) -> None:
    assert probes.dead_letters(str(fake.record)) == 1
    assert probes.dead_letters(str(fake.record), "email-events") == 1
    assert probes.dead_letters(str(fake.record), "payments-commands") == 0


def test_an_unknown_queue_is_an_error_that_names_it(fake) -> None:
    with pytest.raises(CloudError, match="nobodys"):
        probes.queue_depth(str(fake.record), "nobodys")
    with pytest.raises(ActivityFailed, match="stage 'async' has no queue 'nobodys'"):
        probes.dead_letters(str(fake.record), "nobodys")


def test_a_shop_that_cannot_be_entered_confirms_nothing(fake) -> None:
    with pytest.raises(RuntimeError, match="the home document and the catalogue cannot be read"):
        probes.order_confirmed(str(fake.record), 1)
