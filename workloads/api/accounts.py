"""Which resources does the accounts service offer? Accounts; the registration does the rest."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.responses import Response

from workloads.api import bodies
from workloads.api.bodies import Id, Key
from workloads.domain import Record
from workloads.messages import RegisterAccount
from workloads.web import answer


class Accounts(Protocol):
    """Whoever opens the accounts: by calls, or by messages."""

    async def register(self, command: RegisterAccount) -> Record: ...

    async def find(self, account_id: str) -> Record: ...


def document(account: Record) -> dict[str, Any]:
    """What others may know of an account."""
    return {"id": account.id, "state": account.state, "name": account.detail["name"]}


def mount(app: FastAPI, handler: Accounts) -> None:
    """Add the resources."""

    @app.post("/accounts")
    async def register(body: bodies.Account, key: Key) -> Response:
        """Open an account: 201 and Location; everybody is told, or is sure to be."""
        account = await handler.register(RegisterAccount(key=key, name=body.name, email=body.email))
        return answer(document(account), 201, headers={"Location": f"/accounts/{account.id}"})

    @app.get("/accounts/{account_id}")
    async def find(account_id: Id) -> Response:
        """The account as it stands now."""
        return answer(document(await handler.find(account_id)))
