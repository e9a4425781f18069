"""The scenario types of Bench2Drive, each a function from a place to a scenario."""

from takevla.world.scenarios.catalogue import SCENARIOS, build_scenario
from takevla.world.scenarios.place import Place

__all__ = ["SCENARIOS", "Place", "build_scenario"]
