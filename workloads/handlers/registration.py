"""How does an account become known everywhere? Commit it, then tell the consumers; take it back if that fails.

The same dual write as at the end of the order saga: an account whose registration is cut short by a
crash stays active, and the consumers that had not been told never hear of it.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from workloads import deadline, domain, problems
from workloads.domain import Record
from workloads.handlers.compensator import Effects, Undoing
from workloads.messages import AccountRegistered, AccountWithdrawn, RegisterAccount
from workloads.ports import Publisher, PublishFailed, Repository, Unit
from workloads.problems import ProblemError

log = structlog.get_logger()


class Registration:
    """Opens and finds accounts."""

    def __init__(self, repository: Repository, publisher: Publisher, effects: Effects) -> None:
        self._repository = repository
        self._publisher = publisher
        self._clock_ns = effects.clock_ns
        self._hand_over = effects.hand_over
        self._disabled = effects.disabled
        self._registering: set[str] = set()
        self._owed: dict[str, Record] = {}
        """Accounts given up while the database was away: what is still to be committed."""

    async def find(self, account_id: str) -> Record:
        """Raise ProblemError(NOT_FOUND) for an account that never was."""
        account = await self._repository.read(lambda unit: unit.get("user", account_id))
        if account is None:
            raise ProblemError(problems.NOT_FOUND, f"no account {account_id!r}")
        return account

    async def register(self, command: RegisterAccount) -> Record:
        """Open the account and tell everybody; a repeated command gets the same answer.

        Raise ProblemError: DEPENDENCY_UNAVAILABLE once the account is sure to be taken back; IN_PROGRESS,
        KEY_REUSED; what the repository raises.
        """
        account = domain.new_account(command, self._clock_ns())
        if account.id in self._registering:
            raise ProblemError(problems.IN_PROGRESS, f"account {account.id} is being opened", subject=account.id)
        self._registering.add(account.id)
        try:
            existing = await self._repository.write(lambda unit: _begin(unit, account))
            return await self._announce(account) if existing is None else _repeat(existing, account)
        finally:
            self._registering.discard(account.id)

    async def _announce(self, account: Record) -> Record:
        try:
            await self._publisher.publish(
                AccountRegistered(
                    account_id=account.id, key=account.key, name=account.detail["name"], email=account.detail["email"]
                )
            )
        except PublishFailed as error:
            await self._give_up(account, error)
            raise _unavailable(account.id, error.cause) from error
        return account

    async def _give_up(self, account: Record, error: PublishFailed) -> None:
        log.warning("registration-failed", account=account.id, told=error.told, why=error.cause)
        done = "compensation" in self._disabled or not error.told
        given_up = replace(
            account,
            state="rejected" if done else "compensating",
            detail={**account.detail, "told": ",".join(error.told), "why": error.cause},
        )
        try:
            with deadline.within(None):  # however late it is: what was begun must not be forgotten
                await self._repository.write(lambda unit: unit.update(given_up))
        except ProblemError as problem:
            self._owed[account.id] = given_up
            self._hand_over(account.id, ())
            raise ProblemError(
                problems.COMMIT_UNKNOWN, f"the registration is not taken back yet: {problem}", subject=account.id
            ) from problem
        if not done:
            self._hand_over(account.id, ())

    async def unfinished(self, limit: int) -> list[str]:
        """Accounts that are still to be taken back."""
        found = await self._repository.read(lambda unit: unit.in_state("user", ("compensating",), limit))
        return [account.id for account in found]

    async def undo(self, work: Undoing) -> None:
        """Take one account back; raise PublishFailed or ProblemError if not yet."""
        if (owed := self._owed.get(work.subject)) is not None:
            await self._repository.write(lambda unit: unit.update(owed))
            del self._owed[work.subject]
        account = await self._repository.read(lambda unit: unit.get("user", work.subject))
        if account is None or account.state != "compensating":
            return
        told = [name for name in account.detail["told"].split(",") if name]
        await self._publisher.publish(AccountWithdrawn(account_id=account.id, key=account.key), to=told)
        rejected = replace(account, state="rejected")
        await self._repository.write(lambda unit: unit.update(rejected))


def _begin(unit: Unit, account: Record) -> Record | None:
    existing = unit.get("user", account.id, lock=True)
    if existing is None:
        unit.insert(account)
    return existing


def _repeat(existing: Record, wanted: Record) -> Record:
    domain.repeated(existing, wanted)
    if existing.state != "active":
        raise _unavailable(existing.id, existing.detail["why"])
    return existing


def _unavailable(account_id: str, why: str) -> ProblemError:
    return ProblemError(problems.DEPENDENCY_UNAVAILABLE, why, subject=account_id)
