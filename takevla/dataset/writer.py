"""Writing a dataset so that a kill loses nothing committed and a restart gives the same bytes.

A dataset is written in *parts*.  A part holds whole episodes, and which ones is fixed by the order
of the tasks and not by who does the work, so any number of processes may write parts of one dataset
at the same time.  Life of a part: its frames and scenes are written beside their final names and
renamed; then its commit record, with their hashes and the rows of its episodes and takeovers, is
written and renamed: from then on the part exists.  `finish` merges the records, in the order of
their names, into `manifest.json`, `episodes.parquet` and `takeovers.parquet`; it may be called as
often as one likes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from takevla.dataset.schema import (
    COMMITS,
    EPISODES,
    FORMAT,
    FRAMES,
    MANIFEST,
    META,
    PICTURES,
    SCENES,
    TABLES,
    TAKEOVERS,
    VERSION,
    Columns,
    arrow_table,
)
from takevla.files import read_json, write_whole

ROWS_PER_GROUP: Final = 1024
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """Whole episodes, ready to be committed: rows of two tables, columns of the other two."""

    name: str  # "00007"
    episodes: Sequence[Row]
    takeovers: Sequence[Row]
    frames: Columns
    scenes: Columns


class Writer:
    """Writes parts into the dataset at `path`.

    `meta` describes the whole dataset (`rig`, `rates`, `provenance`; JSON values only).  A dataset
    that exists is continued if it was begun with the same `meta`; otherwise ValueError.
    """

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        self.path = path
        content = {"format": FORMAT, "version": VERSION, **meta}
        for folder in (FRAMES, SCENES, COMMITS):
            (path / folder).mkdir(parents=True, exist_ok=True)
        if (path / META).exists():
            if read_json(path / META) != json.loads(json.dumps(content)):
                raise ValueError(
                    f"{path / META}: begun with other settings; choose another folder or remove it"
                )
        else:
            write_whole(path / META, json_bytes(content))

    def has(self, part: str) -> bool:
        """Whether `part` is committed."""
        return (self.path / COMMITS / f"{part}.json").exists()

    def commit(self, part: Part) -> None:
        """Add `part`, or replace nothing if it is there already."""
        if self.has(part.name):
            return
        files = []
        for table, columns in ((FRAMES, part.frames), (SCENES, part.scenes)):
            content = arrow_table(table, columns)
            if len(content) == 0:
                continue
            relative = f"{table}/part-{part.name}.parquet"
            _write_parquet(self.path / relative, content)
            files.append(
                {
                    "path": relative,
                    "rows": len(content),
                    "sha256": sha256(self.path / relative),
                }
            )
        record = {
            "part": part.name,
            "files": files,
            EPISODES: [_plain(EPISODES, row) for row in part.episodes],
            TAKEOVERS: [_plain(TAKEOVERS, row) for row in part.takeovers],
        }
        write_whole(self.path / COMMITS / f"{part.name}.json", json_bytes(record))

    def finish(self) -> None:
        """Make the manifest and the tables of episodes and takeovers name all committed parts."""
        records = [read_json(path) for path in sorted((self.path / COMMITS).glob("*.json"))]
        files = [file for record in records for file in record["files"]]
        for table in (EPISODES, TAKEOVERS):
            rows = [row for record in records for row in record[table]]
            content = arrow_table(table, {c.name: [row[c.name] for row in rows] for c in TABLES[table]})
            target = self.path / f"{table}.parquet"
            _write_parquet(target, content)
            files.append({"path": target.name, "rows": len(rows), "sha256": sha256(target)})
        manifest = {"format": FORMAT, "version": VERSION, "parts": len(records), "files": files}
        write_whole(self.path / MANIFEST, json_bytes(manifest))


def json_bytes(content: Any) -> bytes:
    """JSON in a form that depends on the content only."""
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_parquet(path: Path, content: pa.Table) -> None:
    columns = [column for column in content.schema.names if column not in PICTURES]
    compression = dict.fromkeys(columns, "zstd") | dict.fromkeys(PICTURES & {*content.schema.names}, "none")
    strings = [column for column in columns if pa.types.is_string(content.schema.field(column).type)]
    buffer = pa.BufferOutputStream()
    pq.write_table(
        content, buffer, row_group_size=ROWS_PER_GROUP, compression=compression, use_dictionary=strings
    )
    write_whole(path, buffer.getvalue())


def _plain(table: str, row: Row) -> dict[str, Any]:
    """A row as JSON values, through the table's own types so that a round trip changes nothing."""
    return arrow_table(table, {name: [value] for name, value in row.items()}).to_pylist()[0]
