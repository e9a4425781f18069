"""Collection on the CARLA facade, dreams from its dataset, evaluation on the facade: one run.

    python tests/world/carla_bridge/loop.py --model FOLDER --map Town01.xodr --routes Town01.xml \\
        --subset 1,6 --out runs/carla --json results/carla/facade_loop.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facade import Client, World

from takevla.bench.drivers import load_driver
from takevla.bench.judge import judge
from takevla.bench.provenance import run_facts
from takevla.dataset.reader import Dataset
from takevla.driver.closed_loop import Seat, drive
from takevla.driver.vla.named import model_folder
from takevla.learn.dream.audit import AuditLimits
from takevla.learn.dream.config import DreamConfig
from takevla.stage_work import collect_live, dream_stage
from takevla.takeover.shadow import TakeoverConfig
from takevla.world.carla.opened import open_route
from takevla.world.maps.atlas import load_town
from takevla.world.maps.route_xml import RouteTask, read_routes, select_routes


def run_loop(
    model: Path, xodr: Path, tasks: Sequence[RouteTask], out: Path, config: DreamConfig, *, seed: int
) -> dict[str, Any]:
    """Figures of the three stages; the dataset lies in `out/takeovers`, the model in `out/dream/model`."""
    road_map = load_town(xodr.stem, xodr.parent)
    client = Client(World(road_map, xodr.read_text(encoding="utf-8"), tasks, seed))
    maps = out / "maps"
    began = time.monotonic()
    collect_live(model, tasks, TakeoverConfig(), out / "takeovers", client, seed=seed, maps_dir=maps)
    collected = time.monotonic()
    audit = dream_stage(model, out / "takeovers", out / "dream", config, seed=seed, maps_dir=maps)
    dreamt = time.monotonic()
    dataset = Dataset(out / "takeovers")
    return {
        "episodes": len(dataset.episodes),
        "frames": len(dataset),
        "takeovers": len(dataset.takeovers),
        "audit": audit.to_json(),
        "before": evaluate(client, model, tasks, maps, seed),
        "after": evaluate(client, out / "dream" / "model", tasks, maps, seed),
        "wall_s": {
            "collect": round(collected - began, 1),
            "dream": round(dreamt - collected, 1),
            "evaluate": round(time.monotonic() - dreamt, 1),
        },
    }


def evaluate(
    client: Client, model: Path, tasks: Sequence[RouteTask], maps: Path, seed: int
) -> dict[str, Any]:
    """Score of each route, driven by the model alone on the facade."""
    driver, scores = load_driver(str(model)), {}
    for task in tasks:
        with open_route(client, [task], [seed], driver.rig, maps) as (worlds, camera):
            drive([Seat(0, worlds[0])], driver, camera)
            outcome = judge(worlds[0].record(), worlds[0].route, worlds[0].road_map, 0.0)
        scores[task.id] = {"score": outcome.score_composed, "status": outcome.status}
    mean = sum(row["score"] for row in scores.values()) / len(scores)
    return {"driving_score": round(mean, 2), "routes": scores}


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--routes", type=Path, required=True)
    parser.add_argument("--subset", default="1", help="routes of the file, as 1,6-8")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    model = model_folder(given.model)
    tasks = select_routes(read_routes(given.routes), given.subset)
    # A handful of takeovers judges no dream: the audit is reported, and refuses nothing.
    few = AuditLimits(*[0.0] * 6)  # of a dozen takeovers
    config = DreamConfig(updates=given.updates, limits=few)
    figures = run_loop(model, given.map, tasks, given.out, config, seed=given.seed)
    command = (
        f"python tests/world/carla_bridge/loop.py --model {given.model} --map {given.map.name} "
        f"--routes {given.routes.name} --subset {given.subset} --updates {given.updates} --seed {given.seed}"
    )
    facts = run_facts(command, given.seed, {"updates": given.updates, "subset": given.subset})
    figures["run"] = {key: value for key, value in facts.items() if key != "arguments"}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
