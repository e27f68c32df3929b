"""What would a Pulumi program create? Its resources as rows, without an engine, a provider plugin or an account.

    found = rows(lambda: deploy(options, SYNC), stack="aws-sync")
    found[0]     Row(type='aws:ec2/vpc:Vpc', name='shop', inputs={'cidrBlock': '10.0.0.0/16', ...}, ...)

    recorder    runs a program and keeps what it asked for          cloud         what it is answered
    programs    every program of this project, each run once        kept          their rows, for people to read
    files       whether they are what the repository says           differences   what is new, gone or changed

`python -m infra.testing_pulumi --write` (`make rows`) writes tests/unit/rows/*.json again from the programs.
"""

from infra.testing_pulumi.cloud import ACCOUNT, REGION, answers
from infra.testing_pulumi.programs import CERTIFICATE, PROGRAMS, Program, recorded
from infra.testing_pulumi.recorder import PROJECT, Recorded, Row, of_type, record, row_of, rows

__all__ = [
    "ACCOUNT",
    "CERTIFICATE",
    "PROGRAMS",
    "PROJECT",
    "REGION",
    "Program",
    "Recorded",
    "Row",
    "answers",
    "of_type",
    "record",
    "recorded",
    "row_of",
    "rows",
]
