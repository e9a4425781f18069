"""From what a user calls a driver to the driver itself."""

from __future__ import annotations

from pathlib import Path

from takevla.driver.blind import BlindDriver
from takevla.driver.driver import Driver
from takevla.driver.vla.named import model_folder

EXPERT, CAREFUL_EXPERT = "expert", "careful_expert"  # the latter is the one that takes over
BLIND, STRAIGHT = "blind", "straight"  # ignore every hazard; STRAIGHT ignores the route's turns as well
BUILT_IN = (EXPERT, CAREFUL_EXPERT, BLIND, STRAIGHT)


def driver_name(name: str) -> str:
    """One of `BUILT_IN` as it is, and for any other name the folder of its checkpoint.

    Raises:
        FileNotFoundError: naming what is missing.
    """
    if name in BUILT_IN:
        return name
    try:
        return str(model_folder(name))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"driver {error}; or one of {', '.join(BUILT_IN)}") from error


def load_driver(name: str, commentary: bool = True, device: str = "cpu") -> Driver:
    """The expert, a blind driver, or a VLA: checkpoint folder, "shipped", or owner/name of the hub.

    `commentary` False lets the VLA plan without words.  `device` is where its weights go: "cpu", "cuda",
    "cuda:1", "mps", or "auto".

    Raises:
        FileNotFoundError, ValueError: if the folder is missing or holds something else, or there is no such
            device.
    """
    name = driver_name(name)
    if name in (EXPERT, CAREFUL_EXPERT):
        from takevla.driver.expert import CAREFUL, ORDINARY, Expert

        return Expert(margins=ORDINARY if name == EXPERT else CAREFUL)
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
        opening=loaded.opening,
        rig=loaded.rig,
    )
