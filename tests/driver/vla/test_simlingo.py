"""The import is checked against plain torch code that knows SimLingo's names and nothing of `TakeVLA`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from small_vlms import byte_tokenizer
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from takevla.cli import main
from takevla.driver.vla.inputs import image_inputs, pad_words
from takevla.driver.vla.lean import quickest_reader
from takevla.driver.vla.simlingo import DRIVING, LANGUAGE, VISION, SimLingoSize, simlingo_model
from takevla.driver.vla.tensors import NavigationInput
from takevla.driver.vla.tokenizer import build_tokenizer
from takevla.takeover.commentary import corpus

SIZE = SimLingoSize(
    vision_width=16, vision_inner=24, vision_layers=2, vision_heads=2, image_px=16, patch_px=4, width=32,
    inner=48, layers=2, heads=4, key_value_heads=2, head_width=8, max_words=6,
)  # fmt: skip
ALPHA = 64
State = dict[str, torch.Tensor]


def random_state(vocabulary: int, size: SimLingoSize = SIZE, rank: int = 4) -> State:
    """The published names, with shapes of `size`; weights such that no layer's output grows or fades."""
    torch.manual_seed(0)
    state: State = {}

    def put(name: str, *shape: int) -> None:
        state[name] = torch.randn(*shape) / math.sqrt(math.prod(shape[1:]) if len(shape) > 1 else 25)

    def linear(name: str, outer: int, inner: int, bias: bool = True, lora: bool = False) -> None:
        put(f"{name}.base_layer.weight" if lora else f"{name}.weight", outer, inner)
        if bias:
            put(f"{name}.base_layer.bias" if lora else f"{name}.bias", outer)
        if lora:
            put(f"{name}.lora_A.default.weight", rank, inner)
            put(f"{name}.lora_B.default.weight", outer, rank)

    v, vi, d, patch = size.vision_width, size.vision_inner, size.width, size.patch_px
    keys = d // size.heads * size.key_value_heads
    embeddings = VISION + "vision_model.embeddings."
    put(embeddings + "class_embedding", 1, 1, v)
    put(embeddings + "position_embedding", 1, (size.image_px // patch) ** 2 + 1, v)
    put(embeddings + "patch_embedding.weight", v, 3, patch, patch)
    put(embeddings + "patch_embedding.bias", v)
    for layer in range(size.vision_layers):
        block = f"{VISION}vision_model.encoder.layers.{layer}."
        for norm in ("norm1", "norm2"):
            put(block + norm + ".weight", v)
            put(block + norm + ".bias", v)
        put(block + "ls1", v)
        put(block + "ls2", v)
        linear(block + "attn.qkv", 3 * v, v)
        linear(block + "attn.proj", v, v)
        linear(block + "mlp.fc1", vi, v)
        linear(block + "mlp.fc2", v, vi)
    put(VISION + "mlp1.0.weight", 4 * v)
    put(VISION + "mlp1.0.bias", 4 * v)
    linear(VISION + "mlp1.1", d, 4 * v)
    linear(VISION + "mlp1.3", d, d)
    put(LANGUAGE + "model.embed_tokens.weight", vocabulary, d)
    put(LANGUAGE + "model.norm.weight", d)
    put(LANGUAGE + "lm_head.weight", vocabulary, d)
    for layer in range(size.layers):
        block = f"{LANGUAGE}model.layers.{layer}."
        put(block + "input_layernorm.weight", d)
        put(block + "post_attention_layernorm.weight", d)
        linear(block + "self_attn.q_proj", d, d, lora=True)
        linear(block + "self_attn.k_proj", keys, d, lora=True)
        linear(block + "self_attn.v_proj", keys, d, lora=True)
        linear(block + "self_attn.o_proj", d, d, bias=False, lora=True)
        linear(block + "mlp.gate_proj", size.inner, d, bias=False, lora=True)
        linear(block + "mlp.up_proj", size.inner, d, bias=False, lora=True)
        linear(block + "mlp.down_proj", d, size.inner, bias=False, lora=True)
    state["adaptors.language.embed_tokens.weight"] = state[LANGUAGE + "model.embed_tokens.weight"]
    put(DRIVING + "query_embeds_wps", 1, 20, d)
    put(DRIVING + "query_embeds_speed", 1, 10, d)
    h = size.head_width
    for name, layers in (
        ("wp_encoder.mlp", [(0, h, 2), (2, 2 * h, h), (4, d, 2 * h)]),
        (DRIVING + "route_head", [(0, 2 * h, d), (2, h, 2 * h), (4, 2, h)]),
        (DRIVING + "speed_wps_head", [(0, h, d), (2, 2, h)]),
    ):
        for index, outer, inner in layers:
            linear(f"{name}.{index}", outer, inner, bias="wp_encoder" in name or index != layers[-1][0])
    return state


def _apply(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """A linear layer of SimLingo's, with its adapter run beside it."""
    lora = f"{name}.base_layer.weight" in state
    stem = f"{name}.base_layer" if lora else name
    out = functional.linear(x, state[f"{stem}.weight"], state.get(f"{stem}.bias"))
    if lora:
        down = x @ state[f"{name}.lora_A.default.weight"].T
        out = out + ALPHA / down.shape[-1] * (down @ state[f"{name}.lora_B.default.weight"].T)
    return out


def _norm(state: State, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def _rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight


def _see(state: State, tiles: torch.Tensor, size: SimLingoSize) -> torch.Tensor:
    """(T, 3, S, S) to the image tokens, S / patch / 2 squared of each tile; (tokens, D)."""
    pairs = size.image_px // size.patch_px // 2
    e = VISION + "vision_model.embeddings."
    kernel, bias = (state[e + f"patch_embedding.{part}"] for part in ("weight", "bias"))
    x = functional.conv2d(tiles, kernel, bias, size.patch_px)
    x = x.flatten(2).transpose(1, 2)
    x = (
        torch.cat([state[e + "class_embedding"].expand(len(x), -1, -1), x], 1)
        + state[e + "position_embedding"]
    )
    for layer in range(size.vision_layers):
        b = f"{VISION}vision_model.encoder.layers.{layer}."
        q, k, v = _apply(state, b + "attn.qkv", _norm(state, b + "norm1", x, 1e-6)).chunk(3, -1)
        q, k, v = (p.unflatten(-1, (size.vision_heads, -1)).transpose(1, 2) for p in (q, k, v))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        x = x + _apply(state, b + "attn.proj", (weights @ v).transpose(1, 2).flatten(2)) * state[b + "ls1"]
        inner = functional.gelu(_apply(state, b + "mlp.fc1", _norm(state, b + "norm2", x, 1e-6)))
        x = x + _apply(state, b + "mlp.fc2", inner) * state[b + "ls2"]
    x = x[:, 1:].reshape(-1, pairs, 2, pairs, 2, x.shape[-1])  # row and column of each pair, and in it
    x = x.permute(0, 1, 3, 2, 4, 5).flatten(3)
    x = _norm(state, VISION + "mlp1.0", x.flatten(1, 2), 1e-5)
    x = functional.gelu(_apply(state, VISION + "mlp1.1", x))
    return _apply(state, VISION + "mlp1.3", x).flatten(0, 1)


def _think(state: State, x: torch.Tensor, size: SimLingoSize) -> torch.Tensor:
    """(L, D) embeddings to hidden states of the causal language model."""
    head = size.width // size.heads
    angle = torch.arange(len(x))[:, None] / 1e6 ** (torch.arange(0, head, 2) / head)
    cos, sin = (f(torch.cat([angle, angle], -1)) for f in (torch.cos, torch.sin))
    blocked = torch.ones(len(x), len(x)).triu(1).bool()
    for layer in range(size.layers):
        b = f"{LANGUAGE}model.layers.{layer}."
        y = _rms(x, state[b + "input_layernorm.weight"])
        q, k, v = (
            _apply(state, f"{b}self_attn.{n}_proj", y).unflatten(-1, (-1, head)).transpose(0, 1)
            for n in "qkv"
        )
        q, k = (p * cos + torch.cat([-p[..., head // 2 :], p[..., : head // 2]], -1) * sin for p in (q, k))
        k, v = (part.repeat_interleave(size.heads // size.key_value_heads, 0) for part in (k, v))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(head)).masked_fill(blocked, -math.inf).softmax(-1)
        x = x + _apply(state, b + "self_attn.o_proj", (weights @ v).transpose(0, 1).flatten(1))
        y = _rms(x, state[b + "post_attention_layernorm.weight"])
        gate = functional.silu(_apply(state, b + "mlp.gate_proj", y)) * _apply(state, b + "mlp.up_proj", y)
        x = x + _apply(state, b + "mlp.down_proj", gate)
    return _rms(x, state[LANGUAGE + "model.norm.weight"])


def _mlp(state: State, name: str, x: torch.Tensor, layers: int, active) -> torch.Tensor:
    for index in range(layers):
        x = _apply(state, f"{name}.{2 * index}", active(x) if index else x)
    return x


@dataclass
class Rider:
    """One row of a batch."""

    speed_mps: float
    written: str  # by `round(speed, 1)` in an f-string, as SimLingo's agent writes it
    targets: torch.Tensor  # (2, 2), y to the left


RIDERS = (
    Rider(6.3, "6.3", torch.tensor([[12.0, 3.0], [30.0, -5.0]])),
    Rider(12.34, "12.3", torch.tensor([[9.0, -2.0], [25.0, 8.0]])),
    Rider(0.0, "0.0", torch.tensor([[20.0, 0.0], [40.0, 1.0]])),
)


def navigation_of(riders: Sequence[Rider]) -> NavigationInput:
    rows = len(riders)
    follow = torch.full((rows,), 4)
    targets = torch.stack([one.targets for one in riders])
    speeds = torch.tensor([one.speed_mps for one in riders])
    return NavigationInput(speeds, torch.ones(rows, dtype=torch.bool), targets, follow, follow)


def _prompt(
    state: State, tokenizer: PreTrainedTokenizerFast, size: SimLingoSize, tiles: torch.Tensor, rider: Rider
) -> torch.Tensor:
    """(P, D) embeddings of the agent's chat prompt: tiles, the written speed, two target points."""
    text = (
        "<|im_start|>user\n<img>"
        + "<IMG_CONTEXT>" * (2 * (size.image_px // size.patch_px // 2) ** 2)
        + f"</img>\nCurrent speed: {rider.written} m/s. Target waypoint: "
    )
    after = ". What should the ego do next?<|im_end|><|im_start|>assistant\n"
    table = state[LANGUAGE + "model.embed_tokens.weight"]
    ids = torch.tensor(tokenizer.encode(text, add_special_tokens=False))
    first = table[ids]
    first[ids == tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")] = _see(state, tiles, size)
    points = _mlp(state, "wp_encoder.mlp", rider.targets * torch.tensor([1.0, -1.0]), 3, functional.relu)
    last = table[torch.tensor(tokenizer.encode(after, add_special_tokens=False))]
    return torch.cat([first, points, last])


def _drive(state: State, read: torch.Tensor, size: SimLingoSize) -> tuple[torch.Tensor, torch.Tensor]:
    """Route (20, 2) and speed waypoints (10, 2), y to the left, of queries behind all that was read."""
    queries = torch.cat([state[DRIVING + "query_embeds_wps"][0], state[DRIVING + "query_embeds_speed"][0]])
    hidden = _think(state, torch.cat([read, queries]), size)[-30:]
    route = _mlp(state, DRIVING + "route_head", hidden[:20], 3, functional.silu).cumsum(0)
    speed = _mlp(state, DRIVING + "speed_wps_head", hidden[20:], 2, functional.silu).cumsum(0)
    left = torch.tensor([1.0, -1.0])
    return route * left, speed * left


def _sample(state: State, read: torch.Tensor, size: SimLingoSize, end: int) -> tuple[list[int], torch.Tensor]:
    """Greedy words and all that was read: every sampled token is appended, the end token too."""
    said: list[int] = []
    while len(said) < size.max_words and end not in said:
        scores = state[LANGUAGE + "lm_head.weight"] @ _think(state, read, size)[-1]
        said.append(int(scores.argmax()))
        read = torch.cat([read, state[LANGUAGE + "model.embed_tokens.weight"][said[-1:]]])
    return said, read


@pytest.mark.parametrize(
    ("size", "rank", "vocabulary", "riders"),
    [
        pytest.param(SIZE, 4, 0, RIDERS, id="small"),
        pytest.param(SimLingoSize(), 32, 151_655, RIDERS[:1], id="published", marks=pytest.mark.large),
    ],
)
@torch.no_grad()
def test_plans_are_those_of_an_independent_computation(
    size: SimLingoSize, rank: int, vocabulary: int, riders: Sequence[Rider]
) -> None:
    tokenizer = byte_tokenizer()
    state = random_state(vocabulary or len(tokenizer), size, rank)
    model = simlingo_model(state, tokenizer, size)
    frames = torch.randint(0, 255, (len(riders), 64, 128, 3), dtype=torch.uint8)
    images = image_inputs(frames, model.config)
    words = torch.tensor([tokenizer.encode("go", add_special_tokens=False)] * len(riders))
    context = model.read_prompt(images, navigation_of(riders))
    model.listen(context, words)
    plan = model.plan(context, words)

    answer = torch.tensor(tokenizer.encode("go<|im_end|>", add_special_tokens=False))
    for row, rider in enumerate(riders):
        tiles = images["pixel_values"][2 * row : 2 * row + 2]
        prompt = _prompt(state, tokenizer, size, tiles, rider)
        read = torch.cat([prompt, state[LANGUAGE + "model.embed_tokens.weight"][answer]])
        route, speed = _drive(state, read, size)
        torch.testing.assert_close(plan.waypoints_ego[row], speed, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(plan.route_ego[row, :19], route[1:], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("lean", [False, True], ids=["backbone's reader", "lean reader"])
@torch.no_grad()
def test_own_words_and_plans_are_those_of_greedy_sampling(lean: bool) -> None:
    """Rows whose words end at different times, or never, in one batch."""
    tokenizer = byte_tokenizer()
    state = random_state(len(tokenizer))
    model = simlingo_model(state, tokenizer, SIZE)
    frames = torch.randint(0, 255, (len(RIDERS), 64, 128, 3), dtype=torch.uint8)
    images = image_inputs(frames, model.config)
    prompts = [
        _prompt(state, tokenizer, SIZE, images["pixel_values"][2 * row : 2 * row + 2], rider)
        for row, rider in enumerate(RIDERS)
    ]
    endless = [_sample(state, prompt, SIZE, end=-1)[0] for prompt in prompts]
    lengths = set()
    for end in {endless[0][0], endless[0][2], endless[1][3]}:  # tokens that end some row early
        model.config.eos_token_id = end
        context = model.read_prompt(images, navigation_of(RIDERS), quickest_reader(model.backbone, lean))
        words = model.speak(context)
        plan = model.plan(context, words)
        for row, prompt in enumerate(prompts):
            said, read = _sample(state, prompt, SIZE, end)
            spoken = words[row][words[row] != model.config.pad_token_id].tolist()
            assert spoken == [word for word in said if word != end]
            route, speed = _drive(state, read, SIZE)
            error_m = (plan.route_ego[row, :19] - route[1:]).abs().mean()
            assert error_m < (0.015 if lean else 1e-5)  # without the end token 0.02 to 0.10
            if not lean:
                torch.testing.assert_close(plan.waypoints_ego[row], speed, atol=1e-4, rtol=1e-3)
            lengths.add(len(spoken))
    assert {0, SIZE.max_words} < lengths


@torch.no_grad()
def test_training_plans_as_driving_does() -> None:
    """Words of every length, the longest without its end token, and rows that do not hear theirs."""
    tokenizer = byte_tokenizer()
    model = simlingo_model(random_state(len(tokenizer)), tokenizer, SIZE)
    riders = [RIDERS[row % 3] for row in range(5)]
    navigation = navigation_of(riders)
    images = image_inputs(torch.randint(0, 255, (5, 64, 128, 3), dtype=torch.uint8), model.config)
    said = [tokenizer.encode(text, add_special_tokens=False) for text in ("go", "", "slowly", "left", "no")]
    words = pad_words(said, model.config.pad_token_id)
    heard = torch.tensor([True, True, True, False, True])
    trained = model(images, navigation, words, heard).plan
    context = model.read_prompt(images, navigation)
    model.listen(context, words)
    driven = model.plan(context, words)
    context = model.read_prompt(images, navigation)
    silent = model.plan(context, words[:, :0])
    for row, hears in enumerate(heard.tolist()):
        wanted = (driven if hears else silent).waypoints_ego[row]
        torch.testing.assert_close(trained.waypoints_ego[row], wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (VISION + "mlp1.1.weight", "missing"),
        (LANGUAGE + "model.layers.0.self_attn.q_proj.lora_A.default.weight", "missing"),
        (DRIVING + "query_embeds_wps", "missing"),
        ("adaptors.driving.another_head.weight", "strange"),
        (LANGUAGE + "model.layers.7.input_layernorm.weight", "strange"),
        (VISION + "mlp1.1.weight", "turned over"),
        (VISION + "vision_model.encoder.layers.1.attn.qkv.weight", "turned over"),
        (LANGUAGE + "model.layers.1.mlp.up_proj.lora_A", "turned over"),
        (DRIVING + "query_embeds_speed", "turned over"),
        (DRIVING + "route_head.2.weight", "turned over"),
        ("wp_encoder.mlp.0.weight", "turned over"),
        (DRIVING + "speed_wps_head.0.bias", "a word"),
    ],
)
def test_first_name_that_does_not_fit_is_said(name: str, change: str) -> None:
    tokenizer = byte_tokenizer()
    state = random_state(len(tokenizer))
    if change == "missing":
        del state[name]
    elif change == "turned over":
        whole = name if name in state else f"{name}.default.weight"
        state[whole] = state[whole].transpose(-1, -2)
    elif change == "a word":
        state[name] = "zeros"  # type: ignore[assignment]
    else:
        state[name] = torch.zeros(2)
    with pytest.raises(ValueError, match=name) as caught:
        simlingo_model(state, tokenizer, SIZE)
    assert "\n" not in str(caught.value)


def test_the_command_prints_the_licence_and_names_file_and_weight(tmp_path: Path, capsys) -> None:
    """Shapes of `SIZE` are not the published ones: refused, in one line."""
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    torch.save(random_state(len(tokenizer)), tmp_path / "pytorch_model.pt")
    words = ["import", "simlingo", str(tmp_path / "pytorch_model.pt")]
    words += ["--tokenizer", str(tmp_path / "tokenizer"), "--out", str(tmp_path / "out")]
    with torch.device("meta"):  # the model of the published shapes has a billion weights
        assert main(words) == 2
    said = capsys.readouterr()
    assert "non-commercial" in said.out
    (line,) = said.err.splitlines()
    assert "pytorch_model.pt" in line
    assert f"{VISION}vision_model.embeddings.class_embedding has shape (1, 1, 16), not (1, 1, 1024)" in line
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    state = random_state(len(tokenizer) - 1)
    with pytest.raises(ValueError, match="table of embeddings"):
        simlingo_model(state, tokenizer, SIZE)
    with pytest.raises(ValueError, match="no token <IMG_CONTEXT>"):
        simlingo_model(state, build_tokenizer(corpus()), SIZE)
