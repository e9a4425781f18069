"""From what a user calls a driver to the driver itself."""

from __future__ import annotations

from pathlib import Path

from takevla.driver.blind import BlindDriver
from takevla.driver.driver import Driver

EXPERT = "expert"
BLIND, STRAIGHT = "blind", "straight"  # ignore every hazard; STRAIGHT ignores the route's turns as well
BUILT_IN = (EXPERT, BLIND, STRAIGHT)


def check_driver(name: str) -> None:
    """Nothing for one of `BUILT_IN` or an existing checkpoint folder.

    Raises:
        FileNotFoundError: naming what is missing.
    """
    if name not in BUILT_IN and not Path(name).is_dir():
        raise FileNotFoundError(f"driver {name!r}: neither {', '.join(BUILT_IN)} nor a checkpoint folder")


def load_driver(name: str, commentary: bool = True, device: str = "cpu") -> Driver:
    """The expert, a blind driver, or the VLA of a checkpoint folder.

    `commentary` False lets the VLA plan without words.  `device` is where its weights go: "cpu", "cuda",
    "cuda:1", "mps", or "auto".

    Raises:
        FileNotFoundError, ValueError: if the folder is missing or holds something else, or there is no such
            device.
    """
    check_driver(name)
    if name == EXPERT:
        from takevla.driver.expert import Expert

        return Expert()
    if name in BUILT_IN:
        return BlindDriver(turns=name == BLIND)
    from takevla.driver.vla.checkpoint import load_checkpoint  # torch and transformers: seconds to import
    from takevla.driver.vla.device import to_device, torch_device
    from takevla.driver.vla.policy import VlaDriver

    where = torch_device(device)
    loaded = load_checkpoint(Path(name))
    return VlaDriver(
        to_device(loaded.model, where),
        loaded.tokenizer,
        commentary=commentary,
        residual=loaded.residual,
        rig=loaded.rig,
    )
