"""Built-in towns, generated from a seed: the Alder (training) and Birch (validation) families."""

from takevla.world.maps.towns.build import build_town, town_names

__all__ = ["build_town", "town_names"]
