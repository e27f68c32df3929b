"""By which certificate do users come in? The configured one, or one asked for, which waits for a DNS record.

Without `certificate`, the stack asks ACM for one of `domain`. `pulumi up` waits until the DNS record is set that proves
whose the domain is: ACM's console shows it at once, and the stack's output `certificate_proof` from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_aws import acm

from infra.aws.naming import tags
from infra.config import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the load balancer is given."""

    arn: pulumi.Input[str]
    proof: pulumi.Output[list[dict[str, str]]] | None
    """DNS records to be set, None for a certificate that was configured."""


def certificate(options: Options, opts: pulumi.ResourceOptions | None = None) -> Certificate:
    """Register what is missing. The domain must be configured."""
    if options.certificate:
        return Certificate(arn=options.certificate, proof=None)
    made = acm.Certificate("entry", domain_name=options.domain, validation_method="DNS", tags=tags(options), opts=opts)
    validated = acm.CertificateValidation("entry", certificate_arn=made.arn, opts=opts)
    proof = made.domain_validation_options.apply(
        lambda asked: [
            {"name": each.resource_record_name, "type": each.resource_record_type, "value": each.resource_record_value}
            for each in asked
        ]
    )
    return Certificate(arn=validated.certificate_arn, proof=proof)
