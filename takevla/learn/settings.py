"""Settings of supervised training: they are read, and refused, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from takevla.driver.vla.settings import TinySize, Trainable
from takevla.learn.balance import BUCKET_WEIGHTS, STANDSTILL_WEIGHT
from takevla.takeover.triggers import checked_triggers

PRETRAINING, PRE_TAKEOVER, TAKEOVER, SHADOW = "pretraining", "pre_takeover", "takeover", "shadow"
# A takeover by FOLLOW shows ordinary driving for most of its length, one by COLLISION what is rare elsewhere.
TRIGGER_WEIGHTS: dict[str, float] = {"collision": 3.0, "rule": 2.0, "follow": 1.0, "restart": 1.0}


@dataclass(frozen=True)
class Weights:
    """How much each part of the supervised loss counts."""

    words: float = 2.0
    route: float = 3.0
    waypoints: float = 3.0
    sight: float = 2.0  # for models with that head
    smooth_l1_beta_m: float = 0.5


@dataclass(frozen=True)
class Augmentation:
    """How strongly pictures, speeds and targets of a batch change; shares are probabilities per sample."""

    picture_share: float = 0.8  # samples whose picture is changed at all
    brightness: float = 25.0  # largest shift of all channels, of 255
    contrast: float = 0.2  # largest relative change about the mean
    colour: float = 0.1  # largest relative change of one channel against the others
    noise_share: float = 0.25
    noise: float = 8.0  # largest standard deviation of pixel noise, of 255
    hidden_speed_share: float = 0.3
    speed_noise_mps: float = 0.3
    speed_noise_relative: float = 0.08
    target_noise_m: float = 0.3
    unheard_share: float = 0.2  # samples whose plan is learnt without hearing the commentary
    unknown_past_share: float = 0.1  # samples whose present is shown twice, of models that see the past


@dataclass(frozen=True)
class TrainConfig:
    """How weights are moved.

    Optimisation: AdamW; the learning rate rises over `warmup_steps` and falls as a cosine to
    `final_rate_share` of its peak at the last step.
    """

    batch_size: int = 32
    learning_rate: float = 8e-4
    warmup_steps: int = 150
    final_rate_share: float = 0.005
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    gradient_clip: float = 1.0
    weights: Weights = field(default_factory=Weights)
    augmentation: Augmentation = field(default_factory=Augmentation)
    half_precision: bool | None = None  # bfloat16 matrix products; None: where they are quicker
    parts: int = 2  # of each batch, worked on by a thread each; part of what the bits depend on
    seed: int = 0
    save_every: int = 400  # steps between states on disk
    log_every: int = 20  # steps that one point of the curves averages
    trackers: tuple[str, ...] = ("tensorboard",)  # names that accelerate knows

    def __post_init__(self) -> None:
        for name in ("batch_size", "parts", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}: {getattr(self, name)} must be at least 1")
        if not self.learning_rate > 0.0 or self.warmup_steps < 0:
            raise ValueError(
                f"train.learning_rate: {self.learning_rate} and train.warmup_steps: {self.warmup_steps} move "
                "nothing; give a rate above 0 and no negative number of steps"
            )
        if self.save_every % self.log_every:
            raise ValueError(
                f"train.save_every: {self.save_every} must be a multiple of train.log_every {self.log_every}"
            )
        if self.batch_size % self.parts:
            raise ValueError(
                f"train.batch_size: {self.batch_size} is no multiple of train.parts {self.parts}; "
                "every part of a batch has the same number of samples"
            )


@dataclass(frozen=True)
class PretrainConfig:
    """The recipe of the base model.

    Data: `draws` samples in all, by `bucket_weights` and `standstill_weight` (`takevla.learn.balance`; a
    bucket is one of `takevla.dataset.buckets` or a name in the column `buckets`, as imported data bring it),
    at most `max_repeats` draws of one frame; one episode in `held_out_every` is kept for validation.
    Model: the tiny InternVL of `size` with `max_words` commentary tokens, from scratch; or the checkpoint
    `start` (folder, "shipped" or owner/name of the hub), which is trained on (`takevla import vlm` makes one
    of any backbone), in the weights that `trainable` names.  With `sight` the image tokens of a model with
    square tiles also learn what is where (`takevla.learn.sight`), from data that say so.  With `sees_past` a
    tiny model also gets the picture of 0.5 s before, without which nothing tells how fast others are.
    """

    draws: int = 128_000
    max_repeats: int = 16
    bucket_weights: Mapping[str, float] = field(default_factory=lambda: dict(BUCKET_WEIGHTS))
    standstill_weight: float = STANDSTILL_WEIGHT
    held_out_every: int = 25
    held_out_frames: int = 512
    max_words: int = 16
    size: TinySize = field(default_factory=TinySize)
    start: str | None = None
    sight: bool = True
    sees_past: bool = True
    trainable: Trainable = field(default_factory=Trainable)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name in ("draws", "max_repeats", "max_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"pretrain.{name}: {getattr(self, name)} must be at least 1")
        if self.held_out_every < 2:
            raise ValueError(f"pretrain.held_out_every: {self.held_out_every} leaves nothing; give 2 or more")


@dataclass(frozen=True)
class SftConfig:
    """The recipe of fine-tuning.

    Data: `draws` samples in all in the ratio pretraining : pre_takeover : takeover : shadow; a ratio of 0
    leaves a kind out.  Shadow frames are those that the model drove and that no takeover claims, with the
    plan and the words of the expert who watched.  Their share and that of pre-training are balanced by
    `bucket_weights` as pretraining is.
    `pre_takeover_acts` also learns the expert's plan before the takeover.
    `enhanced` False uses the plain commentary there.  Of the instants of a takeover at which the expert
    stands and stays one in `standing_every` is drawn, as demonstrations keep them: the others show the same.
    A frame of the model's own drives weighs, within its share, by how far its plan was off: by one of
    `error_weights` where the mean distance of its waypoints to the expert's, m, lies between two of
    `error_edges_m`, below the first, or above the last.
    `triggers` says in what ratio takeovers by each of them are drawn, however many there are; those of
    weight 0 teach nothing.
    Weights: `trainable` (LoRA or full, vision or not).
    """

    draws: int = 6_400
    pretraining_ratio: float = 0.7
    pre_takeover_ratio: float = 0.15
    takeover_ratio: float = 0.15
    shadow_ratio: float = 0.0
    bucket_weights: Mapping[str, float] = field(default_factory=lambda: dict(BUCKET_WEIGHTS))
    standstill_weight: float = STANDSTILL_WEIGHT
    pre_takeover_acts: bool = False
    enhanced: bool = True
    standing_every: int = 4
    error_edges_m: tuple[float, ...] = (0.5, 1.5)
    error_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    triggers: Mapping[str, float] = field(default_factory=lambda: dict(TRIGGER_WEIGHTS))
    max_repeats: int = 8
    trainable: Trainable = field(default_factory=Trainable)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(learning_rate=5e-5, warmup_steps=30))

    def __post_init__(self) -> None:
        for name in ("draws", "max_repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"sft.{name}: {getattr(self, name)} must be at least 1")
        ratios = {PRETRAINING: self.pretraining_ratio} | self.taught_ratios
        for kind, ratio in ratios.items():
            if ratio < 0.0:
                raise ValueError(f"sft.{kind}_ratio: {ratio} is negative; 0 leaves a kind out")
        if not any(ratios.values()):
            raise ValueError("sft: every ratio is 0, so nothing is drawn; give one kind a share")
        if self.standing_every < 1:
            raise ValueError(f"sft.standing_every: {self.standing_every} must be at least 1; 1 draws all")
        edges, weights = self.error_edges_m, self.error_weights
        if len(weights) != len(edges) + 1 or list(edges) != sorted(edges) or min(weights) < 0.0:
            raise ValueError(
                f"sft.error_weights: {list(weights)} for error_edges_m {list(edges)}; give edges that grow, "
                "and one weight more than there are edges, none below 0"
            )
        checked_triggers([name for name, weight in self.triggers.items() if weight], "sft.triggers")

    @property
    def taught_ratios(self) -> dict[str, float]:
        """Ratios of the kinds that come from the model's own drives."""
        return {
            PRE_TAKEOVER: self.pre_takeover_ratio,
            TAKEOVER: self.takeover_ratio,
            SHADOW: self.shadow_ratio,
        }
