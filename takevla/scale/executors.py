"""Which executor: in this process, on local processes, on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass

from takevla.scale.job import Executor
from takevla.scale.local import InProcess, LocalProcesses


@dataclass(frozen=True)
class RayCluster:
    """Jobs go to the Ray cluster at `address`; where that is empty, to one started on this machine."""

    address: str = ""


def ray_cluster(executor: str, address: str) -> RayCluster | None:
    """What a user's words for an executor, "local" or "ray", mean.

    Raises:
        ValueError: an address without Ray.
    """
    if executor == "ray":
        return RayCluster(address)
    if address:
        raise ValueError(f"address {address!r} is a Ray cluster's; give --executor ray with it")
    return None


def executor(workers: int, cluster: RayCluster | None = None) -> Executor:
    """In-process for one worker, local processes for more; `workers` actors where a cluster is named.

    Raises:
        ValueError: fewer than one worker, or a cluster without the extra `ray`.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if cluster is None:
        return InProcess() if workers == 1 else LocalProcesses(workers)
    try:
        from takevla.scale.ray_actors import RayActors
    except ModuleNotFoundError as error:
        raise ValueError("executor ray needs an extra: pip install 'takevla[ray]'") from error
    return RayActors(workers, cluster.address)
