"""The configuration string of a leaderboard agent.

Bench2Drive's evaluator appends "+SAVE_NAME" to the string for every route, within one process, and never
removes it: "CHECKPOINT+first+second+third".  The head is ours, the last part is this route's name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SEPARATOR = "+"
SAVE_PATH = "SAVE_PATH"  # environment: Bench2Drive's folder for what agents write
HEARTBEAT = "TAKEVLA_HEARTBEAT"  # environment: the file that tells a supervisor that the agent drives

DEVICE = "TAKEVLA_DEVICE"  # environment: where the model's weights go; the CPU without


@dataclass(frozen=True)
class AgentConfig:
    """What an agent is told at the start of a route."""

    driver: str  # "shipped", or a checkpoint folder
    save_name: str  # "" outside Bench2Drive
    folder: Path | None  # where this route's files go; None: nowhere
    heartbeat: Path | None
    device: str


def agent_config(text: str, environment: Mapping[str, str] = os.environ) -> AgentConfig:
    """Parse the string that `setup` is given.

    Raises:
        ValueError: it names no driver.
    """
    head, *names = text.strip().split(SEPARATOR)
    if not head:
        raise ValueError(
            f"agent configuration {text!r} names no driver; pass --agent-config CHECKPOINT_FOLDER or shipped"
        )
    save_name = names[-1] if names else ""
    root, heartbeat = environment.get(SAVE_PATH, ""), environment.get(HEARTBEAT, "")
    return AgentConfig(
        driver=head,
        save_name=save_name,
        folder=Path(root) / save_name if root and save_name else None,
        heartbeat=Path(heartbeat) if heartbeat else None,
        device=environment.get(DEVICE) or "cpu",
    )
