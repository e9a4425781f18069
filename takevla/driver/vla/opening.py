"""How a commentary opens: its first word names the action, and a head that dreams teach chooses it.

Trained by imitation, a model says what the expert would most probably do.  Where it is unsure whether a
car will cross, the most probable is to drive on; the best, by what either mistake costs, is to brake.  The
words that follow, and the plan, follow from the first word: so one choice among a handful of actions is
what a reward has to teach.  `OpeningHead` adds to the model's own scores of these words and to nothing else,
and only while the ego moves: dreams begin before mistakes and end after seconds, so they show what a moment
of waiting saves and not that one who waits at every plan never goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from takevla.driver.vla.residual import MOVING_MPS


class OpeningHead(nn.Module):
    """Hidden states behind the prompt (B, D) and speeds (B,) to what the actions' first words score more.

    Its last layer starts at zero: then the model says what it would have said.
    """

    ids: torch.Tensor  # (A,) int64 first tokens

    def __init__(self, features: int, ids: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.register_buffer("ids", torch.tensor(list(ids)))
        self.norm = nn.LayerNorm(features)
        self.inner = nn.Linear(features, width)
        self.outer = nn.Linear(width, len(ids))
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, features: torch.Tensor, speed_mps: torch.Tensor) -> torch.Tensor:
        """(B, A) float32; 0 where the ego is slower than `MOVING_MPS`."""
        with torch.autocast(features.device.type, enabled=False):
            added: torch.Tensor = self.outer(torch.tanh(self.inner(self.norm(features.float()))))
        return added * (speed_mps >= MOVING_MPS)[:, None]

    def favoured(self, scores: torch.Tensor, features: torch.Tensor, speed_mps: torch.Tensor) -> torch.Tensor:
        """Scores of the first word (B, V) with what the head adds."""
        return scores.float().index_add(1, self.ids, self(features, speed_mps))
