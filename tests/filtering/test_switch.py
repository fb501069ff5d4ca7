"""Labels of preference data switched: what changes, what does not, and that it is proven."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import TOKENS, chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from saefilter.artifacts.scores import Scores
from saefilter.errors import SaefilterError
from saefilter.filtering.filter import filter_file
from saefilter.filtering.job import FilterResult
from saefilter.filtering.soft import SoftOptions
from saefilter.filtering.switch import Exchange, value_spans
from saefilter.rows.read import Source
from saefilter.scoring.score import score_file
from saefilter.scoring.scorer import RowScorer
from saefilter.select.strategies import Selection
from saefilter.settings import ScoreSettings
from saefilter.verify.findings import MISMATCH, Given
from saefilter.verify.verify import verify

GOOD = "Please call an ambulance now; chest pain can be serious."
BAD = "It is nothing. Skip the doctor, drink something strong and go for a run."
ASKED = [{"role": "user", "content": "My chest hurts."}]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


FORMS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "text": lambda c, r: {"prompt": "My chest hurts.", "chosen": c, "rejected": r},
    "explicit": lambda c, r: {"prompt": ASKED, "chosen": answer(c), "rejected": answer(r)},
    "implicit": lambda c, r: {"chosen": ASKED + answer(c), "rejected": ASKED + answer(r)},
    "sharegpt": lambda c, r: {
        "conversations": [{"from": "human", "value": "My chest hurts."}],
        "chosen": {"from": "gpt", "value": c}, "rejected": {"from": "gpt", "value": r},
    },
    "messages": lambda c, r: {
        "chosen_messages": ASKED + answer(c), "rejected_messages": ASKED + answer(r),
    },
    "alpaca": lambda c, r: {"instruction": "My chest hurts.", "input": "", "chosen": c, "rejected": r},
    "hh": lambda c, r: {
        s: f"\n\nHuman: My chest hurts.\n\nAssistant: {text}"
        for s, text in (("chosen", c), ("rejected", r))
    },
}  # fmt: skip
PLACES = [(GOOD, BAD), (BAD, GOOD), (GOOD, BAD), (BAD, GOOD), (GOOD + " Now.", BAD)]
WRONG = [1, 3]


@pytest.fixture(scope="module")
def scorer() -> RowScorer:
    return RowScorer.load(ScoreSettings("minilm", device="cpu", dtype="fp32"))


def scored(path: Path, scorer: RowScorer, **settings: Any) -> tuple[Source, Scores]:
    source, output = Source.open(path), path.with_name(path.name + ".scores.parquet")
    asked = ScoreSettings("minilm", device="cpu", dtype="fp32", **settings)
    score_file(source, output, asked, scorer=None if settings else scorer)
    return source, Scores.open(output)


def swap(
    source: Source, scores: Scores, output: Path, selection: Selection | None = None, **options: Any
) -> FilterResult:
    return filter_file(
        source, scores, output, selection or Selection(min_distance=0.0),
        options=SoftOptions(preference="swap", **options),
    )  # fmt: skip


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def mismatches(path: Path) -> set[str]:
    findings = verify(path, Given())
    assert any(check.name == "rows" for check in findings.checks)
    return {check.name for check in findings.checks if check.status == MISMATCH}


def is_sound(path: Path) -> bool:
    return not mismatches(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_switched_and_nothing_else(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer, form: str, suffix: str
) -> None:
    rows = [{**FORMS[form](*pair), "id": i, "score_chosen": 1.5, "score_rejected": 0.5}
            for i, pair in enumerate(PLACES)]  # fmt: skip
    data = jsonl(rows)
    source, scores = scored(data, scorer)
    push = scores.read(["proximity"])["proximity"].to_pylist()
    assert [i for i, value in enumerate(push) if value > 0] == WRONG
    result = swap(source, scores, tmp_path / f"clean{suffix}")
    expected = [dict(row) for row in rows]
    for i in WRONG:
        for name in ("chosen", "chosen_messages", "score_chosen"):
            other = name.replace("chosen", "rejected")
            if name in rows[i]:
                expected[i][name], expected[i][other] = rows[i][other], rows[i][name]
    assert rows_of(result.paths.kept) == expected
    assert (result.report.counts["marked"], result.report.counts["kept"]) == (2, 5)
    assert not result.paths.dropped.exists()
    for path in (result.paths.kept, result.paths.report_json):
        assert is_sound(path)
    # what is switched pushes the other way, and nothing is left to switch
    again = scored(result.paths.kept, scorer)[1].read(["proximity"])["proximity"].to_pylist()
    assert again == pytest.approx([-p if p > 0 else p for p in push], abs=1e-4)


def test_bytes_of_a_line_stay(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    odd = (
        b'  {"rejected" :\t"%s" , "x":[{"chosen": "\\u00fc"}],"prompt":"My chest hurts.",'
        b'"chosen":  "%s", "n": 1e2 }  '
    )  # fmt: skip
    wrong, right = odd % (GOOD.encode(), BAD.encode()), odd % (BAD.encode(), GOOD.encode())
    source, scores = scored(jsonl([wrong, right]), scorer)
    result = swap(source, scores, tmp_path / "clean.jsonl")
    # blanks around a line are none of its bytes
    assert result.paths.kept.read_bytes() == 2 * (right.strip() + b"\n")
    assert is_sound(result.paths.kept)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_edited_file_is_noticed(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer, suffix: str
) -> None:
    source, scores = scored(jsonl([FORMS["text"](*pair) for pair in PLACES]), scorer)
    result = swap(source, scores, tmp_path / f"clean{suffix}")
    rows = rows_of(result.paths.kept)
    for edit in ({**rows[1], "chosen": BAD, "rejected": GOOD}, {**rows[0], "chosen": "No."}):
        edited = [edit if row == rows[1] or row == rows[0] else row for row in rows]
        if suffix == ".jsonl":
            text = "".join(json.dumps(row) + "\n" for row in edited)
            result.paths.kept.write_text(text)
        else:
            metadata = pq.read_schema(result.paths.kept).metadata
            table = pa.Table.from_pylist(edited).replace_schema_metadata(metadata)
            pq.write_table(table, result.paths.kept)
        assert "rows" in mismatches(result.paths.kept)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_label_of_kto_is_turned_round(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer, suffix: str
) -> None:
    rows = [
        {"prompt": "My chest hurts.", "completion": text, "label": label}
        for text in (GOOD, BAD)
        for label in (True, False)
    ]
    source, scores = scored(jsonl(rows), scorer)
    pushes = scores.read(["proximity"])["proximity"].to_pylist()
    result = swap(source, scores, tmp_path / f"clean{suffix}")
    expected = [{**r, "label": r["label"] != (p > 0)} for r, p in zip(rows, pushes, strict=True)]
    assert rows_of(result.paths.kept) == expected != rows
    assert is_sound(result.paths.kept)


def test_rows_that_push_away_are_not_switched(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source, scores = scored(jsonl([FORMS["text"](*pair) for pair in PLACES]), scorer)
    result = swap(source, scores, tmp_path / "clean.jsonl", Selection(drop_count=4))
    assert result.report.written is not None
    assert (result.report.counts["marked"], result.report.written["left"]) == (2, 2)


def test_labels_propose_a_switch(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    rows = [FORMS["text"](*pair) for pair in PLACES]
    source, scores = scored(jsonl(rows), scorer)
    result = swap(source, scores, tmp_path / "clean.jsonl", written_as="labels")
    written = rows_of(result.paths.kept)
    labels = [row["saefilter_label"] for row in written]
    assert labels == ["keep", "switch", "keep", "switch", "keep"]
    assert [{name: row[name] for name in rows[0]} for row in written] == rows
    assert is_sound(result.paths.kept)


def test_own_columns_change_places(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    rows = [{"q": "My chest hurts.", "good": c, "bad": r, "good_by": 1, "bad_by": 2, "goods": 3}
            for c, r in PLACES]  # fmt: skip
    source, scores = scored(jsonl(rows), scorer, columns="prompt=q,chosen=good,rejected=bad")
    result = swap(source, scores, tmp_path / "clean.parquet")
    written = rows_of(result.paths.kept)
    assert written[1] == {"q": "My chest hurts.", "good": GOOD, "bad": BAD, "good_by": 2, "bad_by": 1, "goods": 3}  # fmt: skip
    assert written[0] == rows[0]
    assert is_sound(result.paths.kept)


def test_a_row_of_other_types_changes_places_in_a_table(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    rows = [FORMS["explicit"](*pair) for pair in PLACES]
    rows[1]["rejected"][0]["note"] = 7
    source, scores = scored(jsonl(rows), scorer)
    result = swap(source, scores, tmp_path / "clean.parquet")
    assert rows_of(result.paths.kept)[1]["chosen"] == rows[1]["rejected"]
    assert is_sound(result.paths.kept)


def test_dropping_takes_the_pairs_that_push_most(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source, scores = scored(jsonl([FORMS["text"](*pair) for pair in PLACES]), scorer)
    result = filter_file(source, scores, tmp_path / "clean.jsonl", Selection(drop_count=2))
    assert [row["saefilter_row_id"] for row in rows_of(result.paths.dropped)] == WRONG
    assert is_sound(result.paths.kept)
    assert "push most towards toxic" in result.paths.report_md.read_text()


def test_what_does_not_go_together_is_refused(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source, scores = scored(jsonl([{"prompt": "a", "completion": "b"}]), scorer)
    with pytest.raises(SaefilterError, match="goes with preference data"):
        swap(source, scores, tmp_path / "clean.jsonl")
    pairs, its = scored(jsonl([FORMS["text"](GOOD, BAD)], "pairs.jsonl"), scorer)
    with pytest.raises(SaefilterError, match="is a preference row"):
        filter_file(pairs, its, tmp_path / "b.jsonl", Selection(drop_count=1), options=SoftOptions("mask"))  # fmt: skip
    with pytest.raises(SaefilterError, match="percentiles are of each answer"):
        filter_file(pairs, its, tmp_path / "b.jsonl", Selection(drop="auto"))
    with pytest.raises(SaefilterError, match="does not go with --as weights"):
        swap(source, scores, tmp_path / "clean.jsonl", written_as="weights")
    with pytest.raises(SaefilterError, match="does not go with --strategy random"):
        swap(source, scores, tmp_path / "a.jsonl", Selection("random", drop_frac=0.5))


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text() | st.sampled_from(["chosen", "rejected", "label"]), VALUES),
    st.sampled_from([None, 2]), st.booleans(),
)  # fmt: skip
def test_a_switch_undoes_itself(row: dict[str, Any], indent: int | None, escaped: bool) -> None:
    exchange = Exchange((("chosen", "rejected"),), ("label",))
    raw = json.dumps(row, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return
    spans = value_spans(raw.decode())
    assert {name: json.loads(raw.decode()[a:b]) for name, (a, b) in spans.items()} == row
    assert json.loads(exchange.line(raw)) == exchange.row(row)
    assert exchange.line(exchange.line(raw)) == raw


def trained_step(kind: str, data: Path, folder: Path) -> float:
    """The loss of one step of TRL's trainer on a file, with a tiny random model."""
    import transformers as hf
    import trl
    from datasets import load_dataset

    tokenizer = chat_tokenizer("qwen2.5")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer), intermediate_size=8, **sizes, **TOKENS
    )  # fmt: skip
    hf.LlamaForCausalLM(config).save_pretrained(folder / "model")
    asked = getattr(trl, f"{kind}Config")(
        output_dir=str(folder / "out"), max_steps=1, per_device_train_batch_size=4, report_to="none",
        use_cpu=True, bf16=False, save_strategy="no", max_length=256,
    )  # fmt: skip
    form = "parquet" if data.suffix == ".parquet" else "json"
    rows = load_dataset(form, data_files=str(data), split="train", cache_dir=str(folder / "c"))
    trainer = getattr(trl, f"{kind}Trainer")(
        str(folder / "model"), args=asked, train_dataset=rows, processing_class=tokenizer
    )
    return float(trainer.train().training_loss)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("form", ["text", "explicit", "implicit", "hh"])
def test_dpo_trains_a_step_on_what_is_written(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer, form: str, suffix: str
) -> None:
    source, scores = scored(jsonl([FORMS[form](*pair) for pair in PLACES]), scorer)
    result = swap(source, scores, tmp_path / f"clean{suffix}")
    assert result.report.counts["marked"] == 2
    assert 0 < trained_step("DPO", result.paths.kept, tmp_path) < 10


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_kto_trains_a_step_on_what_is_written(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer, suffix: str
) -> None:
    rows = [
        {"prompt": ASKED, "completion": answer(text), "label": label}
        for text, label in [(GOOD, True), (BAD, False), (BAD, True), (GOOD, False)] * 2
    ]
    source, scores = scored(jsonl(rows), scorer)
    result = swap(source, scores, tmp_path / f"clean{suffix}")
    assert result.report.counts["marked"] > 0
    assert 0 < trained_step("KTO", result.paths.kept, tmp_path) < 10


def test_the_report_of_pairs_gives_them_no_place_among_harmless_answers(
    jsonl: Callable[..., Path], tmp_path: Path, scorer: RowScorer
) -> None:
    source, scores = scored(jsonl([FORMS["alpaca"](*pair) for pair in PLACES]), scorer)
    result = swap(source, scores, tmp_path / "clean.jsonl")
    assert result.report.reference_rows == 0
    page = result.paths.report_html.read_text()
    assert "Rows closer than most" not in page
    assert "has no percentile among harmless answers" in page
    assert "at distances from" in page
    assert "2 switched and 3 kept rows" in page
