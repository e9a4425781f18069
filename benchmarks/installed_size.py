"""Size on disk of the plain install and of what each extra adds, in MB (10^6 bytes).

    python benchmarks/installed_size.py [--json FILE]

Sums the files that the installed packages list in their RECORD, over the closure of takevla's requirements
for this Python; compiled `.pyc` files are left out, pip itself and the interpreter too.  An extra that is
not installed here is named and not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "takevla"
MB = 1e6


def needed(name: str, extra: str = "") -> list[Requirement]:
    """What a package asks for here; with `extra`, what that adds."""
    environment = {"extra": extra}
    rows = [Requirement(text) for text in metadata.requires(name) or ()]
    plain = [one for one in rows if one.marker is None or one.marker.evaluate({"extra": ""})]
    if not extra:
        return plain
    return [one for one in rows if one.marker is not None and one.marker.evaluate(environment)]


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of all packages that these requirements bring.

    Raises:
        metadata.PackageNotFoundError: one is not installed.
    """
    found: set[str] = set()
    open_ones = [(one.name, extra) for one in requirements for extra in ("", *one.extras)]
    seen = set(open_ones)
    while open_ones:
        name, extra = open_ones.pop()
        metadata.distribution(name)
        found.add(canonicalize_name(name))
        for one in needed(name, extra):
            for further in ("", *one.extras):
                if (one.name, further) not in seen:
                    seen.add((one.name, further))
                    open_ones.append((one.name, further))
    return found


def megabytes(names: set[str]) -> float:
    """Size of the files of these packages."""
    total = 0
    for name in names:
        for file in metadata.distribution(name).files or ():
            path = Path(str(file.locate()))
            if path.suffix != ".pyc" and path.is_file():
                total += path.stat().st_size
    return round(total / MB, 1)


def package_megabytes(folder: Path) -> float:
    """Size of the package's own files, without kernels that were compiled on this machine."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return round(sum(path.stat().st_size for path in files) / MB, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    plain = closure(needed(PACKAGE))
    torch = closure([Requirement("torch")])
    figures: dict[str, Any] = {
        "python": sys.version.split()[0],
        "torch": metadata.version("torch"),
        "takevla_mb": package_megabytes(Path(__file__).parents[1] / PACKAGE),
        "torch_and_what_it_needs_mb": megabytes(torch),
        "other_packages_mb": megabytes(plain - torch),
        "packages": len(plain),
        "extras_mb": {},
        "extras_not_installed": [],
    }
    for extra in metadata.metadata(PACKAGE).get_all("Provides-Extra") or ():
        try:
            added = closure(needed(PACKAGE, extra)) - plain
        except metadata.PackageNotFoundError:
            figures["extras_not_installed"].append(extra)
            continue
        figures["extras_mb"][extra] = {"mb": megabytes(added), "packages": sorted(added)}
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
