"""TakeVLA: post-train a vision-language-action driving model on its own mistakes."""

__version__ = "0.1.0"
