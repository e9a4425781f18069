"""The HTML report: one self-contained page from a run directory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from takevla.bench.provenance import machine_words
from takevla.report import figures as draw
from takevla.report.birdseye import birdseye_of_towns
from takevla.report.compare import Figure, ability_figures, figures, regressions, route_changes
from takevla.report.embedding import embed
from takevla.report.fan import fan_figure
from takevla.report.gallery import EXPERT_COLOUR, POLICY_COLOUR, BirdsEye, gallery
from takevla.report.run_directory import Round, Run, Training, read_run
from takevla.scene.ttc import CAP_S
from takevla.takeover.triggers import TRIGGERS

TILES = ("Driving score", "Success rate", "Average TTC", "Route completion")
GALLERY_RANGE_M = 44.0  # side of its bird's-eye pictures: a plan of 20 m and what it runs into
_WORDS = {
    "distinct": "Distinct frames drawn",
    "most_repeats": "Draws of the most drawn frame",
    "max_repeats": "Draws of a frame at most allowed",
    "trained_weights": "Weights trained",
    "failure_rate_before": "Share of scenes whose plan fails, before",
    "failure_rate_after": "Share of scenes whose plan fails, after",
    **{f"recall_{name}": f"{name.upper()} takeovers whose event shows in the dream" for name in TRIGGERS},
    **{
        f"world_recall_{name}": f"{name.upper()} failures of the world that the dream shows"
        for name in TRIGGERS
    },
    **{
        f"world_false_{name}": f"{name.upper()} failures of the dream that the world lacks"
        for name in TRIGGERS
    },
    "expert_success": "Expert's plan free of fault",
    "rank_correlation": "Rank correlation of dream reward and outcome",
}


def write_report(run_path: Path, out: Path | None = None, maps_dir: Path | None = None) -> Path:
    """Write the report of a run directory to `out` (default: `report.html` in it); gives back its path.

    `maps_dir` holds the OpenDRIVE files of towns that are not built in.
    """
    target = out or run_path / "report.html"
    text = render(read_run(run_path), birdseye_of_towns(maps_dir, range_m=GALLERY_RANGE_M))
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(target)
    return target


def render(run: Run, birdseye: BirdsEye | None = None) -> str:
    """The page as text; without `birdseye` the gallery shows camera frames only."""
    folder = resources.files("takevla.report") / "page"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((folder / "report.html").read_text(encoding="utf-8"))
    view = _view(run, birdseye)
    view["css"] = Markup((folder / "report.css").read_text(encoding="utf-8"))
    view["js"] = Markup((folder / "report.js").read_text(encoding="utf-8"))
    return template.render(view)


def _view(run: Run, birdseye: BirdsEye | None) -> dict[str, Any]:
    rows, ability_rows = figures(run.before, run.after), ability_figures(run.before, run.after)
    changes = route_changes(run.before, run.after) if run.before and run.after else []
    seed = _seed(run)
    rounds = [_round_view(run, one, seed, birdseye) for one in run.rounds]
    view: dict[str, Any] = {
        "title": "TakeVLA run report",
        "subtitle": _subtitle(run, seed),
        "finding": finding(run, rows),
        "tiles": [row for name in TILES for row in rows if row.name == name],
        "figures": rows,
        "ability_rows": ability_rows,
        "sides": [(name, one) for name, one in (("Before", run.before), ("After", run.after)) if one],
        "ability_figure": Markup(draw.ability_bars(ability_rows)) if ability_rows else None,
        "ability_official": _official_abilities(run),
        "changes": sorted(changes, key=lambda one: (one.difference, one.scenario_type)),
        "regressions": regressions(changes),
        "gained": sum(one.difference > 0 for one in changes),
        "lost": sum(one.difference < 0 for one in changes),
        "rounds": rounds,
        "facts": _facts(run),
        "machine": _machine(run),
        "ttc_cap": CAP_S,
        "missing": missing(run),
        "policy_colour": POLICY_COLOUR,
        "expert_colour": EXPERT_COLOUR,
    }
    view |= _ttc(run)
    view["contents"] = _contents(view)
    return view


def _contents(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [
        (anchor, name)
        for anchor, name, shown in (
            ("figures", "Before and after", view["figures"]),
            ("abilities", "Abilities", view["ability_figure"]),
            ("routes", "Route by route", view["changes"]),
            ("ttc", "Time to collision", view["ttc_figure"]),
        )
        if shown
    ]
    for one in view["rounds"]:
        for part, name in (("takeovers", "Takeovers"), ("sft", "Fine-tuning"), ("dream", "Dreaming")):
            if one[part]:
                found.append((f"{part}-{one['number']}", name + one["suffix"]))
    if view["facts"]:
        found.append(("run", "Run"))
    return [*found, ("reading", "How to read this")]


def finding(run: Run, rows: Sequence[Figure]) -> str:
    """The result in a sentence or two, no better than the intervals allow."""
    score = next((row for row in rows if row.name == "Driving score"), None)
    if score is None:
        return "No evaluation has been run yet."
    if score.difference is None:
        known = score.after or score.before
        assert known is not None
        which = "post-trained" if score.after else "base"
        return (
            f"The {which} model's driving score is {known.mean:.1f} (95 % interval {known.low:.1f} to "
            f"{known.high:.1f}, {known.count} routes). There is nothing to compare it with yet."
        )
    assert score.before is not None
    assert score.after is not None
    d = score.difference
    told = {
        "better": "The interval leaves out zero: on these routes post-training helped.",
        "worse": "The interval leaves out zero: on these routes post-training did harm.",
        "unclear": "The interval holds zero: these routes do not show a difference.",
    }[score.verdict]
    return (
        f"Post-training moved the driving score from {score.before.mean:.1f} to {score.after.mean:.1f}: "
        f"{d.mean:+.1f}, 95 % interval {d.low:+.1f} to {d.high:+.1f}, {d.count} routes paired. {told} "
        "One seed was trained; a claim needs at least three."
    ).replace(" -", " −")


def missing(run: Run) -> list[str]:
    """What the run has not done, in words."""
    lacks = []
    if not run.before:
        lacks.append("evaluation of the base model (base_eval)")
    if not run.rounds:
        lacks.append("any round (rounds/1)")
    for one in run.rounds:
        for name, part in (("takeovers", one.takeovers), ("fine-tuning", one.sft), ("dreaming", one.dream)):
            if part is None:
                lacks.append(f"{name} in round {one.number}")
    if not run.after:
        lacks.append("evaluation of the post-trained model (final_eval)")
    return lacks


def _seed(run: Run) -> int:
    return next((int(facts["seed"]) for facts in run.facts.values() if facts.get("seed") is not None), 0)


def _subtitle(run: Run, seed: int) -> str:
    evaluated = run.after or run.before
    parts = [run.path.resolve().name]
    if evaluated:
        towns = sorted({row["town"] for row in evaluated["per_route"]})
        shown = ", ".join(towns) if len(towns) <= 4 else f"{towns[0]} to {towns[-1]}"
        parts.append(f"{evaluated['routes_total']} evaluation routes ({shown})")
    parts.append(f"seed {seed}")
    finished = [str(facts["finished"]) for facts in run.facts.values() if facts.get("finished")]
    if finished:
        parts.append(max(finished)[:10])
    return " · ".join(parts)


def _official_abilities(run: Run) -> str:
    sides = [(name, one) for name, one in (("before", run.before), ("after", run.after)) if one]
    parts = []
    for name, one in sides:
        signs, mean = one["ability"].get("Traffic_Signs"), one["ability"].get("mean")
        if signs is not None and mean is not None:
            parts.append(f"{name} Traffic Signs {signs:.1f} %, mean of abilities {mean:.1f} %")
    return "; ".join(parts)


def _histogram(metrics: Mapping[str, Any] | None) -> NDArray[np.int64] | None:
    rows = [row["ttc_histogram"] for row in (metrics or {}).get("per_route", []) if row["ttc_histogram"]]
    return np.sum(np.asarray(rows, np.int64), axis=0) if rows else None


def _ttc(run: Run) -> dict[str, Any]:
    before, after = _histogram(run.before), _histogram(run.after)
    if before is None and after is None:
        return {"ttc_figure": None, "ttc_note": ""}
    some = run.after or run.before or {}
    parts = [
        f"{name}: mean {one['ttc_mean_s']:.2f} s, {100 * one['ttc_coverage']:.1f} % of frames on a course "
        "to collision"
        for name, one in (("before", run.before), ("after", run.after))
        if one and one["ttc_mean_s"] is not None
    ]
    return {
        "ttc_figure": Markup(draw.ttc_distribution(before, after, some["ttc_bin_s"])),
        "ttc_note": "Frames (20 Hz) in which an actor is on a collision course, by the least time. "
        + "; ".join(parts)
        + ".",
    }


def _round_view(run: Run, one: Round, seed: int, birdseye: BirdsEye | None) -> dict[str, Any]:
    return {
        "number": one.number,
        "suffix": f", round {one.number}" if len(run.rounds) > 1 else "",
        "takeovers": _takeovers(one),
        "gallery": gallery(one.takeovers, birdseye) if one.takeovers is not None else [],
        "embedding": _embedding(run, one, seed),
        "sft": _sft(one.sft),
        "dream": _dream(one.dream),
    }


def _takeovers(one: Round) -> dict[str, Any] | None:
    if one.takeovers is None or not len(one.takeovers.takeovers):
        return None
    rows = one.takeovers.takeovers.to_pylist()
    episodes = one.takeovers.episodes
    roles = Counter(str(role) for role in one.takeovers.column("role"))
    triggers = Counter(row["trigger"].upper() for row in rows)
    causes = Counter(row["cause"].replace("_", " ") for row in rows)
    failed = sum(not good for good in episodes.column("success").to_pylist())
    return {
        "summary": f"{len(rows)} takeovers in {len(episodes)} attempts ({failed} of them ended with a fault "
        f"in spite of the expert's help), {len(one.takeovers)} frames: {roles['pre_takeover']} before a "
        f"takeover, {roles['takeover']} under the expert, {roles['other']} driven without alarm.",
        "trigger_figure": Markup(draw.count_bars(dict(triggers.most_common()), "Takeovers by trigger")),
        "cause_figure": Markup(draw.count_bars(dict(causes.most_common(10)), "Takeovers by cause")),
    }


def _embedding(run: Run, one: Round, seed: int) -> dict[str, Any] | None:
    model = one.sft.model if one.sft else None
    if one.takeovers is None or model is None:
        return None
    found = embed(model, [data for data in (run.rehearsal, one.takeovers) if data is not None], seed)
    if found is None:
        return None
    return {
        "figure": Markup(draw.scatter(found.points, found.groups)),
        "note": "t-SNE of the fine-tuned model's action features (last hidden states of its route and speed "
        "queries). Near means alike to the model; distances between clusters mean nothing.",
    }


def _flat(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Single numbers of a JSON object, in words."""
    rows = []
    for name, value in content.items():
        words = _WORDS.get(name, name.replace("_", " ").capitalize())
        if value is None:
            rows.append((words, "nothing to judge"))
        elif isinstance(value, int) and not isinstance(value, bool):
            rows.append((words, f"{value:,}"))
        elif isinstance(value, float):
            rows.append((words, f"{value:.3f}"))
    return rows


def _sft(stage: Training | None) -> dict[str, Any] | None:
    if stage is None:
        return None
    return {
        "curves": Markup(draw.curves(stage.curves, "Learning curves")) if stage.curves else None,
        "buckets": stage.audit.get("buckets", []),
        "facts": _flat(stage.audit) + _flat(stage.result),
    }


def _dream(stage: Training | None) -> dict[str, Any] | None:
    if stage is None:
        return None
    result = stage.result
    lists = [result.get(name) for name in ("rewards_before", "rewards_after")]
    drawn = all(isinstance(values, list) and values for values in lists)
    audit = _flat(stage.audit)
    for reason, count in (stage.audit.get("left_out") or {}).items():
        audit.append((f"Left out: {reason}", str(count)))
    return {
        "rewards": Markup(draw.rewards(lists[0] or [], lists[1] or [])) if drawn else None,
        "fans": [
            {
                "trigger": one["trigger"].upper(),
                "takeover": one["takeover"],
                "figure": Markup(fan_figure(one)),
            }
            for one in stage.fans
        ],
        "facts": _flat(result),
        "audit": audit,
        "curves": Markup(draw.curves(stage.curves, "Curves of the reinforcement")) if stage.curves else None,
    }


def _facts(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "seed": facts.get("seed", ""),
            "wall": _duration(facts.get("wall_s")),
            "finished": str(facts.get("finished") or "").replace("T", " ")[:19],
            "revision": str(facts.get("git_revision") or "not in git")[:10]
            + (" + changes" if "+" in str(facts.get("git_revision")) else ""),
        }
        for stage, facts in run.facts.items()
    ]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _machine(run: Run) -> list[tuple[str, str]]:
    facts: Mapping[str, Any] = next(reversed(list(run.facts.values())), {})
    machine, versions = facts.get("machine") or {}, facts.get("versions") or {}
    rows = [("Machine", machine_words(machine))] if machine else []
    if versions:
        shown = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        rows.append(("Versions", shown))
    return rows
