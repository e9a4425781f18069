# mypy: disable-error-code="no-untyped-call"
"""`TakeVLA`: an image-text-to-text backbone that first says what it will do and then plans it.

Sequence: [prompt: tiles, targets, speed, option] [commentary words] [route queries] [speed queries].
Where the queries follow the words, the end token stands between the two (SimLingo's form).
The queries attend to the prompt and to the words; their hidden states become per-point steps whose
cumulative sum is the plan (SimLingo's form, benchmark facts 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from transformers import PreTrainedModel

from takevla.driver.vla import backbone as adapter
from takevla.driver.vla.config import TakeVLAConfig
from takevla.driver.vla.families.family import prompt_positions
from takevla.driver.vla.odometry import carried
from takevla.driver.vla.tensors import Context, NavigationInput, PlanTensors, Prompt, TrainingOutput
from takevla.driver.vla.vision import SightReader
from takevla.scene.route import RouteOption
from takevla.world.camera.rig import Rig

SPEED_DIGITS = 3  # tens, ones and tenths, where the prompt writes the speed in digits
OPTIONS = max(RouteOption) + 1  # option ids start at 1; 0 stands for unknown
SIGHT_CLASSES = 7  # the first of `sight_outputs`, see `takevla.learn.sight`
NOMINAL_ROUTE_STEP_M = 1.0  # distance of neighbouring route points; the head starts from it
NOMINAL_SPEED_STEP_M = 1.0  # 4 m/s at 0.25 s


class TakeVLA(PreTrainedModel):
    """The driving model; see the module's text for the sequence and `TakeVLAConfig` for its parts."""

    config: TakeVLAConfig
    config_class = TakeVLAConfig
    base_model_prefix = "backbone"
    _supports_sdpa = True
    supports_gradient_checkpointing = True
    # centimetres need more than the 8 bits of bfloat16
    _keep_in_fp32_modules_strict = [  # noqa: RUF012
        "target_encoder", "speed_encoder", "option_embedding", "queries", "route_head", "speed_head",
        "sight_head", "sight_reader",
    ]  # fmt: skip

    def __init__(self, config: TakeVLAConfig) -> None:
        super().__init__(config)
        width = config.width
        self.backbone = adapter.build_backbone(config)
        self.target_encoder = _target_encoder(config)
        self.speed_encoder = nn.Sequential(
            nn.Linear(2, config.head_width), nn.ReLU(), nn.Linear(config.head_width, width)
        )
        self.option_embedding = nn.Embedding(OPTIONS, width)
        self.next_option_embedding = nn.Embedding(OPTIONS, width)
        queries = config.route_queries + config.speed_queries
        self.queries = nn.Parameter(torch.zeros(1, queries, width))
        self.route_head = _head(config, deep=config.deep_heads)
        self.speed_head = _head(config, deep=False)
        if config.sight_outputs:
            self._add_sight()
        self._places: torch.Tensor | None = None  # rotary positions of the prompt, made when first needed
        self.post_init()

    def _add_sight(self) -> None:
        """What answers the sight task: a reader of its own where the tower compares, else a head."""
        config = self.config
        if self._reads_motion:
            features = 2 * config.backbone.vision_config.hidden_size
            self.sight_reader = SightReader(features, config.sight_outputs, SIGHT_CLASSES, config.width)
            self.sight_reader.apply(self._init_weights)
            return
        self.sight_head = nn.Sequential(
            nn.Linear(config.width, config.head_width),
            nn.SiLU(),
            nn.Linear(config.head_width, config.sight_outputs),
        )
        self.sight_head.apply(self._init_weights)

    def add_sight(self, outputs: int) -> None:
        """Let a model without it learn `outputs` values for each image token."""
        self.config.sight_outputs = outputs
        self._add_sight()

    def see_past(self, reach: int) -> None:
        """Let a tiny model compare its picture with the past one (`vision.Motion`), `reach` columns aside.

        One that learns the sight task drives as before until it is trained: what its `vision.SightReader`
        tells is zero at first.

        Raises:
            ValueError: it does already.
        """
        if self.compares:
            raise ValueError("the model compares its picture with the past one already")
        apart = bool(self.config.sight_outputs)
        self.backbone.model.vision_tower.see_motion(reach, apart)
        seen = self.config.backbone.vision_config
        seen.num_channels, seen.motion_reach, seen.motion_apart = 3, reach, apart
        self.config.sees_past = True
        if self.config.sight_outputs:
            del self.sight_head
            self._add_sight()

    def look_through(self, rig: Rig) -> None:
        """From now on the past picture is carried along by the ego's own way (`odometry.carried`).

        A rig whose lenses are not one to a tile leaves it as it is.
        """
        config = self.config
        if config.tile_rows == 1 and config.tile_columns == len(rig.lens_yaws_deg) and not config.bottom_crop:
            config.lens_yaws_deg, config.lens_fovs_deg = rig.lens_yaws_deg, rig.lens_fovs_deg
            config.mount_height_m = rig.mount_m[2]

    @property
    def _reads_motion(self) -> bool:
        return bool(getattr(self.config.backbone.vision_config, "motion_apart", False))

    @property
    def compares(self) -> bool:
        """Whether it is a tiny model that compares its picture with the past one."""
        return bool(getattr(self.config.backbone.vision_config, "motion_reach", 0))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        spread = self.config.initializer_range
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=spread)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=spread)
        elif isinstance(module, SightReader):
            for layer in module.layers:
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()
            nn.init.zeros_(module.tell.weight)
        elif module is self:
            nn.init.normal_(self.queries, std=spread)
        if self.config.deep_heads:
            return
        starts = {"route_head.2": NOMINAL_ROUTE_STEP_M, "speed_head.2": NOMINAL_SPEED_STEP_M}
        start_m = next((step for name, step in starts.items() if self.get_submodule(name) is module), None)
        if start_m is not None and isinstance(module, nn.Linear):
            nn.init.constant_(module.bias[:1], start_m)

    # ------------------------------------------------------------------ the prompt

    def prompt_embeddings(self, images: Mapping[str, torch.Tensor], navigation: NavigationInput) -> Prompt:
        """The prompt with this frame's picture, targets, speed and options.

        Rows of `navigation` beyond the pictures fill a batch up to its size and see nothing.
        """
        config = self.config
        rows = navigation.speed_mps.shape[0]
        filled = adapter.embed_tokens(self.backbone, self._prompt().clamp_min(0)).repeat(rows, 1, 1)
        if config.lens_yaws_deg:
            tiles = images["pixel_values"]
            seeing = navigation.speed_mps[: len(tiles) // config.tiles]
            images = {**images, "pixel_values": carried(tiles, seeing, config)}
        pixels = adapter.image_features(self.backbone, images)
        sight = self._sight(pixels, navigation)
        tokens = pixels.tokens
        if sight is not None and pixels.beneath is not None:
            tokens = tokens + self.sight_reader.told(sight).flatten(0, 1).to(tokens.dtype)
        self._fill(filled, config.image_token_id, tokens)
        self._fill(
            filled,
            config.target_token_id,
            self.target_encoder(navigation.target_points_ego / config.target_scale_m),
        )
        self._fill(filled, config.speed_token_id, self._speed(navigation))
        options = self.option_embedding(navigation.option) + self.next_option_embedding(
            navigation.next_option
        )
        self._fill(filled, config.option_token_id, options)
        told = torch.ones(filled.shape[:2], dtype=torch.bool, device=filled.device)
        if config.speed_digit_ids:
            told[:, config.prompt_ids.index(config.speed_token_id)] = _tenths(navigation) >= 100
        if not pixels.deeper:
            return Prompt(filled, told, len(pixels.tokens), sight, None)
        places = (self._prompt() == config.image_token_id).expand(rows, -1)
        deep = adapter.DeepImage(places, pixels.deeper)
        return Prompt(filled, told, len(pixels.tokens), sight, deep)

    def _speed(self, navigation: NavigationInput) -> torch.Tensor:
        """(B, D) encoded speeds, or (B, 3, D) embeddings of their digits."""
        config = self.config
        if config.speed_digit_ids:
            tenths = _tenths(navigation)
            digits = torch.stack([tenths // 100, tenths // 10 % 10, tenths % 10], dim=-1)
            ids = torch.tensor(config.speed_digit_ids, device=digits.device)[digits]
            return adapter.embed_tokens(self.backbone, ids)
        encoded: torch.Tensor = self.speed_encoder(self._told_speed(navigation))
        return encoded

    def _told_speed(self, navigation: NavigationInput) -> torch.Tensor:
        """(B, 2) the scaled speed, 0 where it is hidden, and whether it is known."""
        known = navigation.speed_known.float()
        return torch.stack([navigation.speed_mps / self.config.speed_scale_mps * known, known], dim=-1)

    def _prompt(self) -> torch.Tensor:
        return torch.tensor(self.config.prompt_ids, dtype=torch.long, device=self.queries.device)[None]

    def _fill(self, prompt: torch.Tensor, token_id: int, embeddings: torch.Tensor) -> None:
        """Put `embeddings` (any leading shape, D) at the places of `token_id`, row after row, in place.

        Rows for which there are none stay as they are.
        """
        places = [place for place, token in enumerate(self.config.prompt_ids) if token == token_id]
        if not places:  # a prompt that does not tell this
            return
        given = embeddings.reshape(-1, len(places), prompt.shape[-1]).to(prompt.dtype)
        prompt[: len(given), places] = given

    # ------------------------------------------------------------------ training

    def forward(
        self,
        images: Mapping[str, torch.Tensor],
        navigation: NavigationInput,
        words: torch.Tensor,
        words_heard: torch.Tensor | None = None,
    ) -> TrainingOutput:
        """Teacher-forced pass.

        `words` is (B, W) int64, padded on the right with `pad_token_id`, without the end token.
        `words_heard` (B,) bool says for which rows the queries may attend to the words (default all);
        the others learn to plan without commentary.
        """
        read = self.prompt_embeddings(images, navigation)
        prompt, deep = read.embeddings, read.deep
        rows, count = words.shape
        embedded = adapter.embed_tokens(self.backbone, words)
        spoken = words != self.config.pad_token_id
        heard = spoken if words_heard is None else spoken & words_heard[:, None]
        queries, there = self._queries(heard, prompt.dtype)
        length = prompt.shape[1]
        total = length + count + queries.shape[1]
        visible = torch.ones(total, total, dtype=torch.bool, device=words.device).tril().repeat(rows, 1, 1)
        visible &= torch.cat([read.told, spoken, there], dim=1)[:, None]
        if words_heard is not None:
            visible[:, length + count :, length : length + count] &= words_heard[:, None, None]
        diagonal = torch.arange(total, device=words.device)
        visible[:, diagonal, diagonal] = True
        if deep is not None:
            behind = torch.zeros(rows, total - length, dtype=torch.bool, device=words.device)
            deep = adapter.DeepImage(torch.cat([deep.places, behind], dim=1), deep.layers)
        hidden = adapter.read(
            self.backbone,
            torch.cat([prompt, embedded, queries], dim=1),
            visible,
            self._positions(read.told, words, heard),
            deep=deep,
        )
        logits = adapter.word_logits(self.backbone, hidden[:, length - 1 : length + count])
        return TrainingOutput(logits, self._plan(hidden), read.sight)

    def _sight(self, seen: adapter.ImageFeatures, navigation: NavigationInput) -> torch.Tensor | None:
        """(B, image tokens, sight_outputs) of the pictures of B rows.

        It is told the ego's speed: pictures show only how others move against it.
        """
        config = self.config
        if not config.sight_outputs:
            return None
        rows = len(seen.tokens) // config.prompt_ids.count(config.image_token_id)
        navigation = navigation.rows(slice(0, rows))
        if seen.beneath is not None:
            read: torch.Tensor = self.sight_reader(seen.beneath, self._told_speed(navigation))
            return read
        tokens = seen.tokens.unflatten(0, (rows, -1))
        if not config.speed_digit_ids:
            tokens = tokens + self._speed(navigation)[:, None]
        answer: torch.Tensor = self.sight_head(tokens)
        return answer

    # ------------------------------------------------------------------ driving

    def read_prompt(
        self,
        images: Mapping[str, torch.Tensor],
        navigation: NavigationInput,
        reader: adapter.Reader | None = None,
    ) -> Context:
        """Read the prompt once; words and queries continue from its cache, with the same `reader`."""
        reader = reader or adapter.BackboneReader(self.backbone)
        read = self.prompt_embeddings(images, navigation)
        prompt = read.embeddings
        rows, length = prompt.shape[:2]
        behind = self.config.queries_follow_words + self.queries.shape[1]
        cache = reader.new_cache(rows, length + self.config.max_words + behind)
        visible = torch.ones(length, length, dtype=torch.bool, device=prompt.device).tril()
        visible = visible & read.told[:, None] | torch.eye(length, dtype=torch.bool, device=prompt.device)
        hidden = reader.read(prompt, visible, self._prompt_positions(read.told), cache, read.deep)
        seeing = read.image_tokens // self.config.prompt_ids.count(self.config.image_token_id)
        return Context(reader, cache, hidden[:, -1], read.told, rows, seeing)

    def first_scores(self, context: Context) -> torch.Tensor:
        """(B, V) scores of the first word of the commentary."""
        return adapter.word_logits(self.backbone, context.last_hidden)

    def speak(self, context: Context, first: torch.Tensor | None = None) -> torch.Tensor:
        """Greedy commentary: (B, W) int64, padded on the right; W is the longest row's word count.

        `first` (B, V) takes the place of the model's own scores of the first word.
        The words are appended to the context's cache.  Stops when every row has ended.
        """
        config = self.config
        device = context.last_hidden.device
        alive = torch.arange(context.rows, device=device) < context.seeing
        said: list[torch.Tensor] = []
        scores = self.first_scores(context) if first is None else first
        for _ in range(config.max_words):
            best = scores.argmax(dim=-1)
            alive = alive & (best != config.eos_token_id) & (best != config.pad_token_id)
            if not bool(alive.any()):
                break
            said.append(torch.where(alive, best, config.pad_token_id))
            scores = adapter.word_logits(self.backbone, self._hear(context, said))
        if not said:
            return torch.zeros(context.rows, 0, dtype=torch.long, device=device)
        return torch.stack(said, dim=1)

    def _hear(self, context: Context, said: list[torch.Tensor]) -> torch.Tensor:
        """Read the last of `said` behind the cache; returns its hidden state (B, D)."""
        spoken = torch.stack(said, dim=1) != self.config.pad_token_id
        visible = torch.cat([context.told, spoken], dim=1)
        visible[:, -1] = True
        embedded = adapter.embed_tokens(self.backbone, said[-1][:, None])
        positions = self._first_word(context.told) + len(said) - 1
        hidden = context.reader.read(embedded, visible[:, None], positions, context.cache)
        return hidden[:, 0]

    def listen(self, context: Context, words: torch.Tensor) -> None:
        """Append given words (B, W), padded on the right, to the context's cache: forced commentary."""
        length = len(self.config.prompt_ids)
        count = words.shape[1]
        if count == 0:
            return
        spoken = words != self.config.pad_token_id
        visible = torch.ones(count, length + count, dtype=torch.bool, device=words.device).tril(length)
        visible = visible & torch.cat([context.told, spoken], dim=1)[:, None]
        own = torch.arange(count, device=words.device)
        visible[:, own, length + own] = True
        positions = self._first_word(context.told) + torch.arange(count, device=words.device)
        embedded = adapter.embed_tokens(self.backbone, words)
        context.reader.read(embedded, visible, positions, context.cache)

    def plan(self, context: Context, words: torch.Tensor) -> PlanTensors:
        """Plans that follow from the prompt and the `words` (B, W) already in the context's cache."""
        spoken = words != self.config.pad_token_id
        queries, there = self._queries(spoken, context.last_hidden.dtype)
        count = queries.shape[1]
        unsaid = context.reader.skip(context.cache, self.config.max_words - words.shape[1])
        past = torch.cat([context.told, spoken, spoken.new_zeros(context.rows, unsaid)], dim=1)
        own = torch.ones(count, count, dtype=torch.bool, device=words.device).tril() & there[:, None]
        own |= torch.eye(count, dtype=torch.bool, device=words.device)
        visible = torch.cat([past[:, None].expand(-1, count, -1), own], dim=-1)
        positions = self._query_positions(context.told, spoken)
        return self._plan(context.reader.read(queries, visible, positions, context.cache))

    def _queries(self, heard: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """What is read behind the words, (B, Q, D), and which of it is there for a row, (B, Q) bool.

        The queries, and before them, where they follow the words, the end token: SimLingo reads it like a
        word, so that a commentary of `max_words` goes without.  `heard` is (B, W) bool.
        """
        config = self.config
        queries = self.queries.expand(len(heard), -1, -1).to(dtype)
        there = heard.new_ones(queries.shape[:2])
        if not config.queries_follow_words:
            return queries, there
        end = torch.full((len(heard), 1), config.eos_token_id, device=heard.device)
        ended = heard.sum(dim=1, keepdim=True) < config.max_words
        embedded = adapter.embed_tokens(self.backbone, end).to(dtype)
        return torch.cat([embedded, queries], dim=1), torch.cat([ended, there], dim=1)

    def _prompt_positions(self, told: torch.Tensor) -> torch.Tensor:
        """(B, P) or (3, B, P) rotary positions of the prompt; tokens that are not there take none."""
        if self._places is None or self._places.device != self.queries.device:
            self._places = prompt_positions(self.config).to(self.queries.device)
        return self._places[..., None, :] - (~told).long().cumsum(dim=1)

    def _first_word(self, told: torch.Tensor) -> torch.Tensor:
        """(B, 1) positions of the first word: behind the greatest of the prompt."""
        positions = self._prompt_positions(told)
        return positions.movedim(-2, 0).flatten(1).amax(dim=1, keepdim=True) + 1

    def _query_positions(self, told: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """(B, Q) of what `_queries` gives: fixed places behind the longest commentary, so that a plan does
        not shift with word count; or, as the configuration says, behind the row's own last word.
        """
        queries = torch.arange(self.queries.shape[1], device=told.device)
        if not self.config.queries_follow_words:
            return self._first_word(told) + self.config.max_words + queries
        count = heard.sum(dim=1, keepdim=True)
        ended = (count < self.config.max_words).long()
        end = self._first_word(told) + count
        return torch.cat([end, end + ended + queries], dim=1)

    def _positions(self, told: torch.Tensor, words: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """(B, L) or (3, B, L) positions of prompt, words (B, W) and queries."""
        spoken = self._first_word(told) + torch.arange(words.shape[1], device=words.device)
        behind = torch.cat([spoken, self._query_positions(told, heard)], dim=1)
        prompt = self._prompt_positions(told)
        if prompt.ndim == 3:
            behind = behind.expand(3, -1, -1)
        return torch.cat([prompt, behind], dim=-1)

    def _plan(self, hidden: torch.Tensor) -> PlanTensors:
        """Plans of hidden states (B, L, D) that end with those of the queries."""
        with torch.autocast(hidden.device.type, enabled=False):  # centimetres need more than 8 bits
            features = hidden[:, -self.queries.shape[1] :].float()
            route = self.route_head(features[:, : self.config.route_queries]).cumsum(1)
            waypoints = self.speed_head(features[:, self.config.route_queries :]).cumsum(1)
        if self.config.route_from_ego:  # one step on: what its last step would repeat is put behind
            route = torch.cat([route[:, 1:], 2.0 * route[:, -1:] - route[:, -2:-1]], dim=1)
        return PlanTensors(route, waypoints, features)


def _tenths(navigation: NavigationInput) -> torch.Tensor:
    """(B,) int64 speeds in tenths of m/s, as three digits can tell them."""
    return (navigation.speed_mps * 10.0).round().long().clamp(0, 999)


def _target_encoder(config: TakeVLAConfig) -> nn.Sequential:
    """Target point (2) to an embedding; SimLingo's has a layer more."""
    inner, width = config.head_width, config.width
    if not config.deep_heads:
        return nn.Sequential(nn.Linear(2, inner), nn.ReLU(), nn.Linear(inner, width))
    return nn.Sequential(
        nn.Linear(2, inner),
        nn.ReLU(),
        nn.Linear(inner, 2 * inner),
        nn.ReLU(),
        nn.Linear(2 * inner, width),
    )


def _head(config: TakeVLAConfig, deep: bool) -> nn.Sequential:
    """Hidden state of a query to its step (2); SimLingo's end without bias, its route head is `deep`."""
    inner, width = config.head_width, config.width
    if deep:
        return nn.Sequential(
            nn.Linear(width, 2 * inner),
            nn.SiLU(),
            nn.Linear(2 * inner, inner),
            nn.SiLU(),
            nn.Linear(inner, 2, bias=False),
        )
    return nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, 2, bias=not config.deep_heads))
