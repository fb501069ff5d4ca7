"""The dataset card: it loads where cards are loaded, whatever the data's names hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import chat
from example import HOSTILE, example_report
from huggingface_hub import DatasetCard

from saefilter.report.card import MARK, size_category, to_card


def loaded(text: str, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    found: dict[str, Any] = DatasetCard.load(path).data.to_dict()
    return found


def test_front_matter_and_text_say_what_was_done(tmp_path: Path) -> None:
    report = replace(example_report(), made_from={"source_dataset": "org/name", "revision": "abc"})
    text = to_card(report)
    data = loaded(text, tmp_path)
    assert data["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": report.outputs["kept"]}],
        }
    ]
    assert data["source_datasets"] == ["org/name"]
    assert "saefilter" in data["tags"]
    assert data["size_categories"] == [size_category(report.counts["kept"])]
    assert "license" not in data
    assert MARK in text
    assert "# license: set this" in text
    assert f"| dropped | {report.counts['dropped']:,} |" in text
    assert "    saefilter score " in text
    assert "    saefilter filter " in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = f"x\nlicense: mit\n---\n{HOSTILE}"
    report = example_report()
    report = replace(
        report,
        input=name,
        outputs={**report.outputs, "kept": name + ".parquet"},
        scoring={**report.scoring, "model": name, "toxic_set": name, "preset": name},
        made_from={"source_dataset": name, "revision": name},
        notes=[name],
    )
    text = to_card(report)
    data = loaded(text, tmp_path)
    assert set(data) == {"pretty_name", "tags", "size_categories", "configs"}
    body = DatasetCard(text).text
    outside = re.sub(r"(`+).*?\1", "", body)
    outside = "\n".join(line for line in outside.splitlines() if not line.startswith("    "))
    assert not re.search(r"(?<!\\)<(script|img|/style)", outside)
    assert "](http://x.test" not in outside
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("rows", "name"), [(0, "n<1K"), (1000, "1K<n<10K"), (54321, "10K<n<100K"), (10**10, "n>1B")]
)
def test_sizes_have_the_names_of_the_hub(rows: int, name: str) -> None:
    assert size_category(rows) == name


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_datasets_loads_the_kept_rows_of_the_folder(tmp_path: Path, suffix: str) -> None:
    from datasets import load_dataset
    from scored import write_scores

    from saefilter.errors import SaefilterError
    from saefilter.filtering.filter import filter_file
    from saefilter.rows.read import Source
    from saefilter.select.strategies import Selection

    rows = [{**chat(f"q {i}", f"a {i}"), "id": i} for i in range(20)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    source = Source.open(data)
    scores = write_scores(source, tmp_path / "s.parquet")
    folder = tmp_path / "clean"
    folder.mkdir()
    half = Selection(drop_frac=0.5)
    result = filter_file(source, scores, folder / f"train{suffix}", half, card=True)
    assert result.paths.quarantined.exists()
    found = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    dropped = {view.row_id for view in result.report.dropped}
    assert found["train"]["id"] == [i for i in range(20) if i not in dropped]
    assert found["train"].column_names == ["messages", "id"]
    assert DatasetCard.load(folder / "README.md").data.to_dict()["size_categories"] == ["n<1K"]
    filter_file(source, scores, folder / f"train{suffix}", half, card=True, overwrite=True)
    (folder / "README.md").write_text("# My project\n")
    with pytest.raises(SaefilterError, match="never replaced"):
        filter_file(source, scores, folder / f"train{suffix}", half, card=True, overwrite=True)
