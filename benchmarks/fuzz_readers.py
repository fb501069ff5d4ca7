"""Coverage-guided fuzzing of the readers with atheris (optional: pip install atheris).

    python benchmarks/fuzz_readers.py text -max_total_time=600
    python benchmarks/fuzz_readers.py tables -max_total_time=600

`text` is JSONL, JSON, CSV, gzip, zstd and whatever stands where a conversation should be; `tables` is
Parquet and Arrow. What follows are libFuzzer's own options. An input's first byte says which reader
gets the rest. Anything but rows or one SaefilterError is a finding: libFuzzer stops and keeps the
input as `crash-*`. Python code of saefilter is instrumented; pyarrow's C++ is not, so there the
fuzzer is blind and only mutates sound files.
"""

from __future__ import annotations

import gzip
import random
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "rows")]

with atheris.instrument_imports(include=["saefilter"]):
    from whole import read_table

    from saefilter.errors import SaefilterError
    from saefilter.rows.formats import RowProblem, recognise
    from saefilter.rows.parse import parse_text
    from saefilter.rows.read import Source
    from saefilter.scoring.prepare import conversation_of

KINDS = {
    "text": [".jsonl", ".json", ".csv", ".jsonl.gz", ".jsonl.zst", "conversation", "gzipped"],
    "tables": [".parquet", ".arrow"],
}
SEEDS = 400
FOLDER = Path(
    tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
)


def read(path: Path) -> None:
    """Everything that scoring and filtering ask of a file, but for the model."""
    try:
        source = Source.open(path)
        rows = list(source.rows())
        assert source.count_rows() == len(rows), "the counts differ"
        usable = []
        for row in rows:
            assert (row.data is None) != (row.error is None)
            row.digest()
            if not isinstance(conversation_of(row), str):
                usable.append(row.index)
        table = read_table(source, usable)
        assert sorted([*table.row_ids, *table.conflicts]) == usable, "rows are lost"
        assert table.table.num_rows == len(table.row_ids)
    except SaefilterError:
        return


def one_input(mode: str, data: bytes) -> None:
    """What the fuzzer calls."""
    if not data:
        return
    kind, content = KINDS[mode][data[0] % len(KINDS[mode])], data[1:]
    if kind == "conversation":
        value, problem = parse_text(content.decode("utf-8", "replace"))
        if problem is None and isinstance(value, dict):
            try:
                recognise(value)
            except RowProblem:
                return
        return
    if kind == "gzipped":
        kind, content = ".jsonl.gz", gzip.compress(content, 1)
    path = FOLDER / f"data{kind}"
    path.write_bytes(content)
    read(path)


def seeds(mode: str, folder: Path) -> None:
    """Sound and damaged files to begin with."""
    from damage import lines, sound_files

    rng = random.Random(0)
    drawn = [line.raw for line in lines(SEEDS, share=0.8, canary="/nowhere", seed=5)]
    sound = sound_files(rng, FOLDER)
    for number in range(SEEDS):
        kind = number % len(KINDS[mode])
        name = KINDS[mode][kind]
        if f"a{name}" in sound and (mode == "tables" or number < 40 or "." not in name):
            content = sound[f"a{name}"]
            if mode == "tables" and number >= len(KINDS[mode]):
                content = sound_files(rng, FOLDER)[f"a{name}"]
        elif name == ".json":
            content = b"[" + b",".join(drawn[number : number + 3]) + b"]"
        elif name == ".jsonl.gz":
            content = gzip.compress(drawn[number])
        else:
            content = b"\n".join(drawn[number : number + 3])
        if len(content) < 1 << 16:
            (folder / f"seed-{number}").write_bytes(bytes([kind]) + content)


def main() -> None:
    """Fuzz until libFuzzer's limits, or a finding."""
    mode = sys.argv[1]
    corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
    seeds(mode, corpus)
    options = ["-timeout=120", "-rss_limit_mb=4096", "-max_len=65536", str(corpus)]
    atheris.Setup([sys.argv[0], *sys.argv[2:], *options], lambda data: one_input(mode, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
