"""What can the local cloud answer but success?

CloudError                    the base: `status` is the HTTP status, `problems` all findings
  NotFound            404     no such deployment or resource
  Conflict            409     true at another time: being deleted, held by a fault, no such target
  Invalid             422     the request itself is wrong; nothing was started
  Died                422     a process ended or never got ready; nothing of the attempt is left running
  Unavailable         500     this machine could not do it (no port, host process does not answer)
CloudUnreachable              the client's: the daemon cannot be started or does not answer
"""

from __future__ import annotations

from collections.abc import Sequence


class CloudError(Exception):
    """A request was refused or failed. The message says what, where, and what to do."""

    status = 500

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def of_status(cls, status: int, message: str, problems: Sequence[str] = ()) -> CloudError:
        """The error that an answer with this HTTP status stands for."""
        kind = {404: NotFound, 409: Conflict, 422: Invalid}.get(status, Unavailable)
        return kind(message, problems)


class NotFound(CloudError):
    """There is no such deployment or resource."""

    status = 404


class Conflict(CloudError):
    """The request makes sense, but not in the present state."""

    status = 409


class Invalid(CloudError):
    """The request is malformed; every finding is in `problems`; nothing was done."""

    status = 422

    @classmethod
    def of(cls, what: str, problems: Sequence[str]) -> Invalid:
        return cls(f"{what}: {'; '.join(problems)}", problems)


class Died(CloudError):
    """A process ended, or did not become ready in time. It has been removed."""

    status = 422


class Unavailable(CloudError):
    """This machine could not do it."""

    status = 500


class CloudUnreachable(CloudError):
    """The daemon cannot be started, or does not answer. Whether the last request took effect is not known."""
