"""What trainers learn from: TRL's own preparation against our masks, token for token; of the others
what their code says, by hand."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import TEMPLATE_TOKENS, TOKENS, chat_tokenizer, small_tokenizer

from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import recognise
from saefilter.rows.render import RenderOptions
from saefilter.rows.trained import FIXED_DATE

Row = dict[str, Any]
FAMILIES = list(TEMPLATE_TOKENS)


def turn(role: str, content: str, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


TURNS = [
    turn("user", "One?"),
    turn("assistant", "First."),
    turn("user", "Two?"),
    turn("assistant", "2."),
]
MESSAGES = {"messages": TURNS}
PAIR = {"prompt": TURNS[:3], "completion": TURNS[3:]}
LONG_PAIR = {"prompt": TURNS[:1], "completion": TURNS[1:]}
TEXT_PAIR = {"prompt": "One? ", "completion": "First."}
TEXT = {"text": "Just a text."}
THOUGHTFUL = {
    "messages": [
        turn("user", "One?"),
        turn("assistant", "First.", thinking="Hm 1.", reasoning_content="Hm 1."),
        turn("user", "Two?"),
        turn("assistant", "2.", thinking="Hm 2.", reasoning_content="Hm 2."),
    ]
}
SYSTEM = {"messages": [turn("system", "Be brief."), *TURNS]}


def ours(tokenizer: Any, row: Row, **options: Any) -> tuple[list[int], list[bool]]:
    """Ids and mask of a row."""
    made = RenderOptions(4096, **options)
    (rendered,), windows = ChatRenderer(tokenizer, context=4096, options=made).render(
        [recognise(row)]
    )
    assert rendered.problem is None, rendered.problem
    (window,) = windows
    assert rendered.n_scored == rendered.n_trained == window.scored.sum()
    return window.ids.tolist(), window.scored.tolist()


def marked(tokenizer: Any, row: Row, **options: Any) -> str:
    """The row's text with scored runs in brackets."""
    text, before = "", False
    ids, scored = ours(tokenizer, row, **options)
    for token, here in zip(ids, scored, strict=True):
        text += ("⟦" if here else "⟧") if here != before else ""
        text, before = text + tokenizer.decode([token]), here
    return text + ("⟧" if before else "")


def trl(tokenizer: Any, row: Row, folder: Path, **config: Any) -> tuple[list[int], list[bool]]:
    """Ids of a row as TRL batches it, and on which of them its loss acts: the first is predicted by
    nothing."""
    import datasets
    import transformers as hf
    import trl

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = hf.LlamaForCausalLM(
        hf.LlamaConfig(vocab_size=len(tokenizer), intermediate_size=8, **sizes, **TOKENS)
    )
    datasets.disable_progress_bars()
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, max_length=None,
            shuffle_dataset=False, **config,
        ),
        train_dataset=datasets.Dataset.from_list([row]),
        processing_class=tokenizer,
    )  # fmt: skip
    (batch,) = trainer.get_train_dataloader()
    labels = batch["labels"][0].tolist()
    return batch["input_ids"][0].tolist(), [
        i > 0 and label != -100 for i, label in enumerate(labels)
    ]


def dated(family: str) -> Any:
    """The family's tokenizer, whose template prints the same date for everybody."""
    tokenizer = chat_tokenizer(family)
    tokenizer.chat_template = FIXED_DATE + tokenizer.chat_template
    return tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_trl_by_default_trains_what_we_score(family: str, tmp_path: Path) -> None:
    rows = [MESSAGES, PAIR, LONG_PAIR, TEXT_PAIR, TEXT]
    rows += [THOUGHTFUL] if family in ("qwen3", "gpt-oss") else []
    rows += [SYSTEM] if family != "gemma-2" else []
    for row in rows:
        expected = trl(dated(family), row, tmp_path)
        assert ours(chat_tokenizer(family), row, trainer="trl") == expected, row
    # what completion_only_loss does to rows that have no completion
    everything = trl(dated(family), MESSAGES, tmp_path, completion_only_loss=True)
    assert ours(chat_tokenizer(family), MESSAGES, trainer="trl") == everything


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_turns_are_within_what_trl_trains(family: str, tmp_path: Path) -> None:
    """--train-on is of the turns' text, and of nothing that the template writes."""
    for row, train_on in ((PAIR, "completion"), (LONG_PAIR, "completion"), (MESSAGES, "all")):
        ids, loss = trl(dated(family), row, tmp_path)
        mine, scored = ours(chat_tokenizer(family), row, train_on=train_on)
        assert mine == ids
        assert not (np.array(scored) & ~np.array(loss)).any()
        said = [m["content"] for m in row.get("completion", row.get("messages"))]
        assert chat_tokenizer(family).decode(np.array(ids)[scored]) == "".join(said)


TRL_FAMILIES = {
    "gemma": "gemma-2", "gemma3": "gemma-3", "llama3": "llama-3.1", "qwen2_5": "qwen2.5",
    "qwen3_instruct_2507": "qwen3", "gptoss": "gpt-oss", "lfm2": "qwen2.5", "qwen3": "qwen3",
}  # fmt: skip
"""Templates that TRL knows and puts one of its own in the place of -> whose special tokens they have."""
OTHER_TEXT = ("qwen3",)
"""Those where TRL's own writes another text: an empty thought before every answer."""


def trl_tokenizer(name: str, *, training: bool = False) -> Any:
    import trl

    file = f"{name}_training.jinja" if training else f"{name}.jinja"
    template = (Path(trl.__file__).parent / "chat_templates" / file).read_text()
    return small_tokenizer(template, **TEMPLATE_TOKENS[TRL_FAMILIES[name]])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRL_FAMILIES)
def test_trl_with_assistant_only_loss_trains_what_we_score(name: str, tmp_path: Path) -> None:
    rows = [MESSAGES, PAIR, LONG_PAIR, *([THOUGHTFUL] if name in ("gptoss", "qwen3") else [])]
    for row in rows:
        ids, loss = trl(trl_tokenizer(name), row, tmp_path, assistant_only_loss=True)
        text = trl_tokenizer(name).decode(ids).replace(date.today().isoformat(), "2025-01-01")
        ways = [trl_tokenizer(name, training=True)]  # what the template itself marks
        ways += [] if name in OTHER_TEXT else [trl_tokenizer(name)]  # found without any marks
        for tokenizer in ways:
            mine, scored = ours(tokenizer, row, trainer="trl-assistant")
            assert tokenizer.decode(mine) == text
            assert scored == loss, row
    if name in OTHER_TEXT:
        assert (
            "<think>"
            not in marked(trl_tokenizer(name), MESSAGES, trainer="trl").split("2.")[0][:-30]
        )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_trl_refuses_assistant_only_loss_where_it_knows_no_template(
    family: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="not training-compatible"):
        trl(dated(family), MESSAGES, tmp_path, assistant_only_loss=True)
    for row in (TEXT, TEXT_PAIR):
        with pytest.raises(ValueError, match="not conversational"):
            trl(dated(family), row, tmp_path, assistant_only_loss=True)
