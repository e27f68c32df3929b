"""With `network_faults` a stack of the mesh has the templates that it lacked, and gives up what they need, no more."""

from __future__ import annotations

from functools import cache

import pytest

from infra.aws.fis import NETWORK_FAULTS, drills
from infra.config import options
from infra.policy import Row, judge
from infra.program import deploy
from infra.testing_pulumi.programs import PROGRAMS, recorded
from infra.testing_pulumi.recorder import Recorded, record
from stages.catalogue import MESH

# the SDK warns of one of its own classes when it is loaded, which nobody uses
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:aws.ec2/encryptioncontrol:DeprecationWarning"),
]

TEMPLATE = "aws:fis/experimentTemplate:ExperimentTemplate"


@cache
def told() -> Recorded:
    """The stack of the system whose services call others across clusters, told so."""
    program, backbone = PROGRAMS["aws-mesh-commerce"], PROGRAMS["aws-mesh-backbone"]
    found = options({**program.config, "network_faults": "true"}, program.stack)

    def run() -> None:
        deploy(found, MESH)

    return record(run, stack=program.stack, references={backbone.stack: recorded(backbone.name).outputs})


def test_nothing_is_new_but_the_templates_and_nothing_changes_but_the_callers_pods() -> None:
    before = {(row.type, row.name): row.inputs for row in recorded("aws-mesh-commerce").rows}
    after = {(row.type, row.name): row.inputs for row in told().rows}

    new = {drill.name for drill in drills(MESH, network_faults=True) if drill.action in NETWORK_FAULTS}
    assert new
    assert after.keys() - before.keys() == {(TEMPLATE, name) for name in new}
    assert before.keys() <= after.keys()
    assert {key for key in before if before[key] != after[key]} == {
        ("kubernetes:apps/v1:Deployment", "commerce/shop-commerce/storefront-deployment")
    }


def test_no_rule_of_the_policy_pack_objects() -> None:
    found = judge([Row(type=row.type, name=row.name, inputs=row.inputs) for row in told().rows])
    assert [str(finding) for finding in found if finding.judged] == []
