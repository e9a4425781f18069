"""Sections of the page of results that set arms side by side: their figures, seeds, controls and costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from takevla.bench.provenance import machine_words
from takevla.study.cell import BASE, FULL, ORDER
from takevla.study.dreams import CALM, CURVES, JUDGED
from takevla.study.markup import arrow, difference, interval, mean_of, seeds, table
from takevla.study.measures import MEASURES, SUMMARISED
from takevla.study.summary import Cells, Finding, find, interaction

# What an arm changes beside its scores: the margin it keeps, and how early it says and does the right thing.
MINDSET: Mapping[str, str] = {
    "close_frames": "frames with TTC < 1.5 s, %", "close_per_km": "TTC < 1.5 s, s/km",
    "action_right": "action as the expert's, %", "both_right": "action and cause, %",
    "takeovers_per_km": "calls by the monitor, 1/km", "takeovers_per_min": "the same, 1/min",
    "words_lead_s": "right words earlier by, s", "braking_lead_s": "first braking earlier by, s",
    "braking_answer_s": "braking once named earlier by, s",
}  # fmt: skip
DRIVING = ("route_completion", "efficiency", "comfort", "comfort_si")
# Do words before takeovers and dreams gain more together than each alone?
TOGETHER = ((FULL, "language_enhanced"), ("no_pre_takeover", "dagger"))
STAGES: Mapping[str, str] = {  # last part of a stage's folder
    "base_eval": "evaluate the base", "rehearsal": "rehearsal", "starts": "starts", "takeovers": "collect",
    "expert": "expert frames", "sft": "fine-tune", "dream": "dream", "final_eval": "evaluate",
}  # fmt: skip


def title(cells: Cells) -> str:
    """What an arm is called."""
    return str(next(iter(cells.values()))["title"])


def arms_table(cells: Mapping[str, Cells], arms: Sequence[str], base: Cells) -> list[str]:
    """The three figures that count, with their differences from the base."""
    head = ["arm", "seeds"]
    for name in SUMMARISED:
        head += [MEASURES[name].heading, "Δ to base"]
    rows = []
    for arm in arms:
        row = [title(cells[arm]), seeds(sorted(cells[arm]))]
        for name in SUMMARISED:
            found, digits = find(cells[arm], base, MEASURES[name]), MEASURES[name].digits
            row += [interval(found.value, digits), difference(found, digits)]
        rows.append(row)
    return table(head, rows)


def missing_arms(cells: Mapping[str, Cells]) -> list[str]:
    """The arms of the study that no cell is of yet."""
    missing = [f"`{arm}`" for arm in ORDER if arm not in cells]
    if not missing:
        return []
    told = "the head of `recipes/arms/NAME.yaml` says what each is"
    return ["", f"Not driven here yet ({told}): {', '.join(missing)}."]


def each_seed(cells: Mapping[str, Cells], arms: Sequence[str], base: Cells) -> list[str]:
    """The differences of arms with several seeds, seed by seed, over routes alone."""
    rows = []
    for arm in arms:
        common = [seed for seed in sorted(cells[arm]) if seed in base]
        for seed in common if len(common) > 1 else []:
            one = [find({seed: cells[arm][seed]}, {seed: base[seed]}, MEASURES[name]) for name in SUMMARISED]
            rows.append([title(cells[arm]), str(seed), *_differences(one)])
    if not rows:
        return []
    head = ["arm", "seed", *(f"Δ {MEASURES[name].heading}" for name in SUMMARISED)]
    return ["", "### Each seed against the base's same seed", "", *table(head, rows)]


def driving(cells: Mapping[str, Cells], arms: Sequence[str], base: Cells) -> list[str]:
    """How much was driven and how, and the scores over the routes that have an outcome."""
    scored = ("driving_score_scored", "success_rate_scored")
    rows = []
    for arm in arms:
        own = list(cells[arm].values())
        row = [title(cells[arm])]
        row += [
            interval(find(cells[arm], base, MEASURES[name]).value, MEASURES[name].digits) for name in scored
        ]
        routes = [f"{one['figures']['routes_scored']} / {one['figures']['routes_total']}" for one in own]
        rows.append([*row, ", ".join(routes)])
    head = ["arm", "Driving score", "Success rate, %", "routes scored / asked"]
    lines = ["", "Over the routes that have an outcome:", "", *table(head, rows)]
    rows = []
    for arm in arms:
        row = [title(cells[arm])]
        for name in DRIVING:
            found = find(cells[arm], base, MEASURES[name])
            row += [interval(found.value, 1), difference(found, 1)]
        rows.append(row)
    head = ["arm"]
    for name in DRIVING:
        head += [MEASURES[name].heading, "Δ"]
    return [*lines, "", "How far and how it was driven:", "", *table(head, rows)]


def against_controls(cells: Mapping[str, Cells], arms: Sequence[str], full: Cells) -> list[str]:
    """The full system against every other arm, over the seeds that both have."""
    rows = []
    for arm in (one for one in arms if one not in (BASE, FULL)):
        found = [find(full, cells[arm], MEASURES[name]) for name in SUMMARISED]
        rows.append([title(cells[arm]), seeds(found[0].paired_seeds), *_differences(found)])
    if not rows:
        return []
    head = ["the full system against", "seeds", *(f"Δ {MEASURES[name].heading}" for name in SUMMARISED)]
    lines = ["", "### The full system against each control", "", *table(head, rows)]
    named = [arm for pair in TOGETHER for arm in pair]
    if not all(arm in cells for arm in named):
        return lines
    first, second = (tuple(cells[arm] for arm in pair) for pair in TOGETHER)
    found = [interaction((first[0], first[1]), (second[0], second[1]), MEASURES[name]) for name in SUMMARISED]
    head = ["what dreams add", "seeds", *head[2:]]
    rows = [
        ["more after words before takeovers than without", seeds(found[0].paired_seeds), *_differences(found)]
    ]
    return [*lines, "", *table(head, rows)]


def towards_expert(expert: Path, base: Cells, full: Cells) -> list[str]:
    """How much of the way from the base to the expert the full system goes, by an evaluation of the expert on
    the same suite (`metrics` of the file `expert`; nothing where it is missing).
    """
    if not expert.is_file():
        return []
    driven = json.loads(expert.read_text(encoding="utf-8"))
    rows = []
    for name in SUMMARISED:
        measure, best = MEASURES[name], driven["metrics"].get(name)
        gain = find(full, base, measure)
        before, after = (
            find({seed: side[seed] for seed in gain.paired_seeds}, {}, measure).value for side in (base, full)
        )
        if best is None or gain.difference is None or before is None or after is None or best == before.mean:
            continue
        share = [
            100.0 * one / (best - before.mean)
            for one in (gain.difference.mean, gain.difference.low, gain.difference.high)
        ]
        figures = [f"{one:.{measure.digits}f}" for one in (before.mean, after.mean, best)]
        rows.append([measure.heading, *figures, f"{share[0]:.0f} [{min(share):.0f}, {max(share):.0f}]"])
    if not rows:
        return []
    head = ["figure", "base", "after", "expert", "of the way, %"]
    lines = [
        f"The expert sees the whole truth (`results/expert/{expert.name}`, seed {driven['seed']}).  What he",
        "leaves is the suite's own, and an average TTC above his is no better driving.  The way gone is the",
        "gain, paired by route, against the difference of the expert from the base; the interval is that of",
        "the gain.",
    ]
    return ["", "### How far towards the expert", "", *lines, "", *table(head, rows)]


def mindset(cells: Mapping[str, Cells], arms: Sequence[str], base: Cells) -> list[str]:
    """Margin, words and foresight of each arm against the base."""
    rows = [
        [title(cells[arm]), *(difference(find(cells[arm], base, MEASURES[name]), 2) for name in MINDSET)]
        for arm in arms
    ]
    head = ["arm", *MINDSET.values()]
    return ["", "### Change of margin and foresight, each arm against the base", "", *table(head, rows)]


def dreams(cells: Mapping[str, Cells], arms: Sequence[str]) -> list[str]:
    """What the dreams of each arm came to, mean over its seeds and rounds; nothing where no arm dreams."""
    rows, refused = [], []
    for arm in arms:
        found = [(seed, one) for seed, cell in sorted(cells[arm].items()) for one in cell.get("dreams", [])]
        refused += [f"`{arm}`, seed {seed}: {one['refused']}" for seed, one in found if one["refused"]]
        dreamed = [one for _, one in found if not one["refused"]]
        if not dreamed:
            continue
        judged = [mean_of([one["judged"][name] for one in dreamed]) for name in JUDGED[1:]]
        calm = [mean_of([one["judged"][name] for one in dreamed]) for name in CALM[3:]]
        last = [mean_of([one["last_update"][name] for one in dreamed]) for name in CURVES[1:4]]
        rows.append(
            [f"`{arm}`", str(len(dreamed)), arrow(judged[:2], 3), arrow(judged[2:], 3), arrow(calm, 3)]
            + ["" if one is None else f"{one:.3f}" for one in last]
        )
    if not rows and not refused:
        return []
    lines = ["", "### Dreams", ""]
    if rows:
        lines += [
            "Before and after, of the plan that drives, over the scenes dreamed (in closed dreams over",
            "`dream.closed.judged` of them); the last three figures are of the last update, KL in nats:",
            "",
            *table(
                ["arm", "dreams", "reward", "failures", "failures of calm driving", "KL, scenes dreamed",
                 "KL, ordinary frames", "degenerate groups"],
                rows,
            ),
        ]  # fmt: skip
    if refused:
        lines += ["", "Nothing was dreamed in these, whose fine-tuned model was driven as it is:", ""]
        lines += [f"- {one}" for one in refused]
    return lines


def cost(cells: Mapping[str, Cells], arms: Sequence[str]) -> list[str]:
    """Minutes of each kind of stage, mean over seeds; a stage that arms share counts in each of them."""
    rows = []
    for arm in arms:
        spent = dict.fromkeys(STAGES, 0.0)
        for one in cells[arm].values():
            for stage in one["stages"]:
                spent[stage["folder"].rsplit("/", 1)[-1]] += (stage["wall_s"] or 0.0) / 60.0 / len(cells[arm])
        minutes = [f"{spent[name]:.1f}" if spent[name] else "" for name in STAGES]
        rows.append([f"`{arm}`", *minutes, f"{sum(spent.values()):.1f}"])
    every: dict[str, float] = {}
    revisions: dict[str, None] = {}
    machines: dict[str, None] = {}
    for one in (cell for arm in arms for _, cell in sorted(cells[arm].items())):
        every.update({stage["key"]: stage["wall_s"] or 0.0 for stage in one["stages"]})
        revisions.update(dict.fromkeys(str(stage["git_revision"])[:12] for stage in one["stages"]))
        machines[machine_words(one["machine"])] = None
    suite = next(iter(cells[arms[0]].values()))["suite"]
    return [
        "",
        "### Cost, and how to run a cell again",
        "",
        "Minutes of wall time, mean over seeds, stages that arms share counted in each:",
        "",
        *table(["arm", *STAGES.values(), "sum"], rows),
        "",
        f"The whole table, each stage once: {sum(every.values()) / 3600.0:.2f} hours.  Machine: "
        f"{'; '.join(machines)}.",
        "",
        f"Revisions: {', '.join(f'`{one}`' for one in revisions)}.",
        "",
        "A cell from nothing:",
        "",
        "    takevla arms --arms '[ARM]' --seeds '[SEED]' "
        f"--suite {suite.split('-')[0]} --work A --results B",
    ]


def _differences(found: Sequence[Finding]) -> list[str]:
    return [difference(one, MEASURES[name].digits) for one, name in zip(found, SUMMARISED, strict=True)]
