"""What can go wrong with a request, and did it take effect? The registry of problem types (RFC 9457).

Every refusal of the shop is one of these types. `definite` answers the question that matters to a caller
whose request failed: True means that surely nothing was applied and nothing will be (what had begun is
being undone); False means that it may have been, or may yet be.

    ProblemError                 raised anywhere, answered as application/problem+json
      ports.CallFailed           a callee did not do what it was asked (ports.py)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

PREFIX = "urn:shop:problem:"
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemType:
    """One kind of refusal."""

    name: str
    """Last word of the type URN, such as 'out-of-stock'."""
    status: int
    """HTTP status that a REST binding answers with."""
    title: str
    definite: bool
    """Whether surely nothing was or will be applied."""
    doc: str
    """When it is raised, and what the caller can do."""

    @property
    def urn(self) -> str:
        """The `type` member of the problem document."""
        return PREFIX + self.name


MALFORMED = ProblemType(
    name="malformed-request",
    status=400,
    title="The request cannot be read",
    definite=True,
    doc="Not HTTP, not JSON, not UTF-8, or a number out of every range. Mend the request.",
)
INVALID = ProblemType(
    name="invalid-request",
    status=422,
    title="A value is missing or not allowed",
    definite=True,
    doc="The body is JSON, but a member or header is missing or breaks its rule; `errors` lists all of them.",
)
KEY_REQUIRED = ProblemType(
    name="idempotency-key-required",
    status=400,
    title="Idempotency-Key is missing or malformed",
    definite=True,
    doc="A request that creates something must carry a key of 1 to 128 visible ASCII characters, new per intent.",
)
KEY_REUSED = ProblemType(
    name="idempotency-key-reused",
    status=422,
    title="The key belongs to another request",
    definite=True,
    doc="The same Idempotency-Key came with a different body before. Nothing was done for this one.",
)
IN_PROGRESS = ProblemType(
    name="request-in-progress",
    status=409,
    title="The first request with this key is still at work",
    definite=False,
    doc="A repetition overtook its original, whose outcome is open. Ask again in a moment.",
)
NOT_FOUND = ProblemType(
    name="not-found",
    status=404,
    title="There is nothing here",
    definite=True,
    doc="Unknown path, or no such order, account or product.",
)
NOT_ALLOWED = ProblemType(
    name="not-allowed",
    status=403,
    title="The caller may not do this",
    definite=True,
    doc="Policy lets nobody through whom the model does not name as a caller; said by the mesh.",
)
METHOD_NOT_ALLOWED = ProblemType(
    name="method-not-allowed",
    status=405,
    title="The resource does not know this method",
    definite=True,
    doc="The Allow header lists what it knows.",
)
TOO_LARGE = ProblemType(
    name="body-too-large",
    status=413,
    title="The body is too large",
    definite=True,
    doc="Bodies are limited; it was not read to its end.",
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    name="unsupported-media-type",
    status=415,
    title="The body is not application/json",
    definite=True,
    doc="Requests with a body must say Content-Type: application/json.",
)
HTTP_REFUSED = ProblemType(
    name="http-refused",
    status=400,
    title="The request was refused",
    definite=True,
    doc="Any other refusal of the web framework; the status says which.",
)
UNKNOWN_PRODUCT = ProblemType(
    name="unknown-product",
    status=422,
    title="The shop does not sell this product",
    definite=True,
    doc="`product` is not in the catalogue.",
)
OUT_OF_STOCK = ProblemType(
    name="out-of-stock",
    status=409,
    title="Not enough units are left",
    definite=True,
    doc="A business refusal: the order is rejected, what it had begun is undone.",
)
ALREADY_UNDONE = ProblemType(
    name="already-undone",
    status=409,
    title="The undo came first",
    definite=True,
    doc="A late original met the tombstone its undo had left; it is refused for good.",
)
NOT_CANCELLABLE = ProblemType(
    name="order-not-cancellable",
    status=409,
    title="The order does not hold",
    definite=True,
    doc="Only an order that is confirmed, or accepted for later, can be cancelled; `state` says what this one is.",
)
OVERLOADED = ProblemType(
    name="overloaded",
    status=503,
    title="Too many requests are being worked on",
    definite=True,
    doc="The service's bulkhead is full; the request was not looked at. Try later.",
)
NOT_READY = ProblemType(
    name="not-ready",
    status=503,
    title="The service is starting or stopping",
    definite=True,
    doc="Asked by a load balancer: send new connections elsewhere.",
)
DATABASE_UNAVAILABLE = ProblemType(
    name="database-unavailable",
    status=503,
    title="The database does not take the request",
    definite=True,
    doc="Locked, slow or gone; the transaction was rolled back.",
)
COMMIT_UNKNOWN = ProblemType(
    name="commit-unknown",
    status=503,
    title="The database was lost while committing",
    definite=False,
    doc="The transaction may have been committed. Repeat with the same key to find out.",
)
DEPENDENCY_UNAVAILABLE = ProblemType(
    name="dependency-unavailable",
    status=503,
    title="Another service is needed and does not answer",
    definite=True,
    doc="This service lives, so no breaker counts it. What had begun is being undone.",
)
COMPLETION_PENDING = ProblemType(
    name="completion-pending",
    status=503,
    title="Begun, and not finished yet",
    definite=False,
    doc="The intent is recorded and will be completed later without being asked again.",
)
OUTCOME_UNKNOWN = ProblemType(
    name="outcome-unknown",
    status=504,
    title="Another service did not answer in time",
    definite=False,
    doc="The request was handed on and may have been applied. Repeat with the same key to find out.",
)
DEADLINE_EXCEEDED = ProblemType(
    name="deadline-exceeded",
    status=504,
    title="The caller no longer waits",
    definite=True,
    doc="The deadline passed before the work was begun, so it was not begun.",
)
INTERNAL = ProblemType(
    name="internal-error",
    status=500,
    title="The service has a defect",
    definite=False,
    doc="Logged with its trace id.",
)

TYPES: Mapping[str, ProblemType] = {
    found.name: found for found in list(globals().values()) if isinstance(found, ProblemType)
}
"""The registry, by name."""


class ProblemError(Exception):
    """A request is refused. `type` says whether it may have had an effect."""

    def __init__(self, kind: ProblemType, detail: str, **more: Any) -> None:
        """`detail` is for humans and names the offending values; `more` become members of the document."""
        super().__init__(f"{kind.name}: {detail}")
        self.kind = kind
        self.detail = detail
        self.more = more

    def document(self) -> dict[str, Any]:
        """The problem document."""
        return {
            "type": self.kind.urn,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "definite": self.kind.definite,
            **self.more,
        }


def is_one(document: object) -> TypeGuard[dict[str, Any]]:
    """Whether an answer is a problem document of the shop's, said by a service or by the mesh in its place."""
    return isinstance(document, dict) and str(document.get("type", "")).startswith(PREFIX)


def parse(document: object, status: int) -> ProblemError:
    """The error that another service's answer describes; one without a known type becomes HTTP_REFUSED.

    >>> parse({"type": "urn:shop:problem:out-of-stock", "detail": "2 left"}, 409)
    ProblemError('out-of-stock: 2 left')
    """
    if not isinstance(document, dict):
        return ProblemError(HTTP_REFUSED, f"answered {status} without a problem document", status=status)
    kind = TYPES.get(str(document.get("type", "")).removeprefix(PREFIX), HTTP_REFUSED)
    more = {k: v for k, v in document.items() if k not in {"type", "title", "detail", "definite", "status"}}
    if kind.status != status:
        more["status"] = status
    return ProblemError(kind, str(document.get("detail", "")), **more)
