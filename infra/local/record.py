"""How does the daemon's state read as the Deployment record that infra, chaos and loadtests share? (pure)"""

from __future__ import annotations

from infra.local.home import Home
from infra.local.state import SERVICE, DeploymentState, Service
from infra.naming import USERS
from stages.deployment import Deployment, Instance, Part, Wire
from stages.mesh import STABLE


def record(state: DeploymentState, home: Home) -> Deployment:
    """The record as of now; services that never ran are left out, dead ones keep their last address."""
    directory = home.deployment(state.name)
    edges = [f"http://127.0.0.1:{wire.port}" for wire in state.wires.values() if wire.spec.caller == USERS]
    return Deployment(
        name=state.name,
        run_id=state.run_id,
        stage=state.stage,
        target="local",
        control=str(home.socket),
        edge=edges[0] if edges else "",
        directory=str(directory),
        variant=state.variant,
        services={
            name: Instance(
                url=f"http://{service.instance.address}",
                cluster=service.spec.cluster,
                pid=service.instance.process.pid if service.instance.process else 0,
                log=str(directory / "logs" / f"{name}.log"),
                database=state.databases.get(service.spec.database or "", {}).get("url"),
            )
            for name, service in state.services.items()
            if service.instance is not None and not _is_part(service)
        },
        parts={
            name: Part(
                role=service.spec.role,
                of=service.spec.of,
                cluster=service.spec.cluster,
                version=service.spec.version,
                admin=f"http://{service.instance.address}",
                pid=service.instance.process.pid if service.instance.process else 0,
                log=str(directory / "logs" / f"{name}.log"),
                ports=dict(state.ports.get(name, {})),
            )
            for name, service in state.services.items()
            if service.instance is not None and _is_part(service)
        },
        wires={
            name: Wire(listen=f"127.0.0.1:{wire.port}", caller=wire.spec.caller, callee=wire.spec.callee)
            for name, wire in state.wires.items()
        },
    )


def _is_part(service: Service) -> bool:
    """Whether it belongs to the mesh rather than to the shop as everybody knows it."""
    return service.spec.role != SERVICE or service.spec.version != STABLE
