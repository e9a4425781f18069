"""The privileged, rule-based expert."""

from takevla.driver.expert.expert import Expert

__all__ = ["Expert"]
