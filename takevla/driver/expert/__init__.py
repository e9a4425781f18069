"""The privileged, rule-based expert."""

from takevla.driver.expert.expert import Expert
from takevla.driver.expert.margins import CAREFUL, ORDINARY, Margins

__all__ = ["CAREFUL", "ORDINARY", "Expert", "Margins"]
