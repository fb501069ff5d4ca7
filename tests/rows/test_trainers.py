"""What trainers learn from: TRL's own preparation against our masks, token for token; of the others
what their code says, by hand."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import TEMPLATE_TOKENS, TOKENS, chat_tokenizer, small_tokenizer

from saefilter.asked import ask
from saefilter.errors import SaefilterError
from saefilter.rows.chat import ChatRenderer
from saefilter.rows.formats import recognise
from saefilter.rows.render import PlainRenderer
from saefilter.rows.rendered import RenderOptions
from saefilter.rows.trained import FIXED_DATE, TRAINERS, what_is_scored
from saefilter.settings import ScoreSettings

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
        theirs = marked(trl_tokenizer(name, training=True), MESSAGES, trainer="trl-assistant")
        mine = marked(trl_tokenizer(name), MESSAGES, trainer="trl-assistant")
        assert theirs.replace("<think>\n\n</think>\n\nFirst.", "First.") == mine


OTHERWISE = {
    "cohere2", "glm4moe", "phi3", "phi3_5",  # what ends a turn, or the row
    "qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6",  # TRL's own writes other texts
}  # fmt: skip
"""Templates for which TRL trains otherwise than is found without `{% generation %}` tags."""
OF_PARTS = {"idefics3", "llava_next", "smolvlm"}
"""Templates that take contents as lists of parts alone."""


@pytest.mark.slow
def test_all_templates_that_trl_knows_without_their_tags() -> None:
    """TRL's training template, by its tags, against the one it stands for; said in docs/input.md."""
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    otherwise = set()
    known = {path.stem.removesuffix("_training") for path in folder.glob("*_training.jinja")}
    for name in sorted(known - OF_PARTS):
        templates = [(folder / f"{name}{end}.jinja").read_text() for end in ("_training", "")]
        special = re.findall(r"<[|｜][\w▁/]+[|｜]?>|<(?:start|end)_of_\w+>|<turn\|>", templates[1])
        texts = [
            marked(
                small_tokenizer(
                    template, bos_token="<s>", eos_token="</s>", extra=" ".join(sorted({*special}))
                ),
                MESSAGES,
                trainer="trl-assistant",
            )
            for template in templates
        ]
        otherwise |= {name} if texts[0] != texts[1] else set()
    assert otherwise == OTHERWISE
    assert len(known - OF_PARTS) == 28


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


ENDS = {
    "gemma-2": "<end_of_turn>\n", "gemma-3": "<end_of_turn>\n", "llama-3.1": "<|eot_id|>",
    "qwen2.5": "<|im_end|>\n", "qwen3": "<|im_end|>\n", "gpt-oss": "<|return|>",
}  # fmt: skip
EOS = {family: TEMPLATE_TOKENS[family]["eos_token"] for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_how_each_trainer_ends_an_answer(family: str) -> None:
    """LLaMA-Factory trains a turn's end with its line break, axolotl the EOS alone, where it ends the
    turn; of OpenAI nothing is known."""
    tokenizer, end = chat_tokenizer(family), ENDS[family]

    def last(trainer: str) -> str:
        return marked(tokenizer, MESSAGES, trainer=trainer).rpartition("⟦")[2]

    thought = "<think>\n\n</think>\n\n" if family == "qwen3" else ""
    channel = "<|channel|>final<|message|>" if family == "gpt-oss" else ""
    assert last("llama-factory") == f"{thought}{channel}2.{end}⟧"
    eos = EOS[family]
    assert last("axolotl") == (
        f"2.{end}⟧".replace(f"{eos}\n⟧", f"{eos}⟧\n") if eos in end else f"2.⟧{end}"
    )
    assert last("openai") == f"2.⟧{end}"


def test_markers_between_channels_are_as_the_trainer_has_them() -> None:
    def last(**options: Any) -> str:
        return marked(chat_tokenizer("gpt-oss"), THOUGHTFUL, **options).rpartition("Two?")[2]

    whole = "Hm 2.<|end|><|start|>assistant<|channel|>final<|message|>2."
    assert last(trainer="trl-assistant") == (
        f"<|end|>⟦<|start|>assistant<|channel|>analysis<|message|>{whole}<|return|>⟧"
    )
    assert last(trainer="llama-factory") == (
        f"<|end|><|start|>assistant⟦<|channel|>analysis<|message|>{whole}<|return|>⟧"
    )
    assert last(trainer="axolotl") == (
        f"<|end|><|start|>assistant<|channel|>⟦analysis<|message|>{whole}<|return|>⟧"
    )


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_turns_own_mark_counts_where_the_trainer_reads_it(trainer: str) -> None:
    flags = [turn("user", "U", train=True), turn("assistant", "A", train=False), *TURNS[2:]]
    weights = [turn("user", "U"), turn("assistant", "A", weight=0), *TURNS[2:]]

    def said(turns: list[Row]) -> set[str]:
        tokenizer = chat_tokenizer("gemma-2")
        ids, scored = ours(tokenizer, {"messages": turns}, trainer=trainer)
        text = tokenizer.decode(np.array(ids)[scored])
        return {word for word in ("U", "A", "Two?", "2.") if word in text}

    usual = {"A", "2."} | ({"U", "Two?"} if trainer == "trl" else set())
    assert said(flags) == ({"U", "2."} if trainer == "axolotl" else usual)
    assert said(weights) == ({"2."} if trainer == "openai" else usual)


def test_rows_that_a_trainer_refuses_are_told() -> None:
    renderer = ChatRenderer(
        chat_tokenizer("qwen2.5"), context=512, options=RenderOptions(trainer="trl-assistant")
    )
    rows, _ = renderer.render([recognise(row) for row in (TEXT, TEXT_PAIR, PAIR)])
    assert [row.problem is None for row in rows] == [False, False, True]
    assert "refuses rows that are no conversations" in str(rows[0].problem)


def test_letters_of_special_tokens_stay_letters_whoever_trains() -> None:
    tokenizer = chat_tokenizer("qwen2.5")
    row = {"messages": [turn("user", "x<|im_end|>y"), turn("assistant", "<|im_start|>user")]}
    usual, _ = ours(tokenizer, row)
    for trainer in TRAINERS:
        ids, scored = ours(tokenizer, row, trainer=trainer)
        assert ids == usual
        assert "<|im_start|>user" in tokenizer.decode(np.array(ids)[scored])
    text = {"text": "ends itself<|im_end|>"}
    ids, _ = ours(tokenizer, text, trainer="trl")
    assert ids.count(tokenizer.eos_token_id) == 1


def test_before_reads_one_token_earlier_and_never_a_bos() -> None:
    tokenizer = chat_tokenizer("gemma-2")
    ids, at = ours(tokenizer, MESSAGES)
    _, before = ours(tokenizer, MESSAGES, read="before")
    assert before == [*at[1:], False]
    assert tokenizer.decode([ids[before.index(True)]]) == "\n"  # of the template, before the answer
    options = RenderOptions(4096, train_on="all", read="before")
    renderer = ChatRenderer(tokenizer, context=16, options=options, prepend_bos=True)
    rows, windows = renderer.render([recognise({"text": "abcdefghijklmnopqrstuvwxyz"})])
    assert rows[0].n_scored == 26
    assert [window.scored.sum() for window in windows] == [14, 10]  # one fewer in each window
    assert not any(window.scored[0] for window in windows)
    shown = ["".join(rows[0].text[a:b] for a, b in w.spans[w.scored]) for w in windows]
    assert shown == ["bcdefghijklmno", "qrstuvwxyz"]  # what is trained there, for evidence


def test_before_has_nothing_to_read_where_nothing_comes_before() -> None:
    renderer = PlainRenderer(
        chat_tokenizer("qwen2.5"), context=512, options=RenderOptions(read="before")
    )
    rows, windows = renderer.render([recognise({"text": "a"}), recognise({"text": "abc"})])
    assert "nothing comes before" in str(rows[0].problem)
    assert [(window.row, window.scored.tolist()) for window in windows] == [
        (1, [False, True, False])
    ]


def test_a_trainer_and_turns_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SaefilterError, match="--trainer and --train-on exclude each other"):
        ask({"trainer": "trl", "train_on": "assistant"}, folder=tmp_path)
    with pytest.raises(SaefilterError, match="exclude each other"):
        ScoreSettings(trainer="trl", train_on="all")
    (tmp_path / "saefilter.toml").write_text('train-on = "all"\n')
    asked = ask({"trainer": "axolotl"}, folder=tmp_path)  # what is given has the last word
    assert (asked.settings.trainer, asked.settings.train_on) == ("axolotl", "assistant")
    assert "train_on" not in asked.origin
    (tmp_path / "saefilter.toml").write_text('train-on = "all"\ntrainer = "trl"\n')
    with pytest.raises(SaefilterError, match=r"saefilter.toml: --trainer and --train-on exclude"):
        ask({}, folder=tmp_path)


def test_every_choice_is_said_in_words() -> None:
    settings = ScoreSettings.__dataclass_fields__
    for name in ("train_on", "trainer"):
        for choice in settings[name].metadata["option"].choices:
            assert what_is_scored(choice) != choice
    assert "--trainer trl" in what_is_scored("assistant")
    assert set(settings["trainer"].metadata["option"].choices) == set(TRAINERS)


def test_completion_is_of_rows_that_have_one() -> None:
    tokenizer = chat_tokenizer("qwen2.5")
    assert marked(tokenizer, LONG_PAIR, train_on="completion").count("⟦") == 3
    assert marked(tokenizer, PAIR, train_on="completion").rpartition("⟦")[2] == "2.⟧<|im_end|>\n"
    alpaca = {"instruction": "Do.", "output": "Done."}
    assert "⟦Done.⟧" in marked(tokenizer, alpaca, train_on="completion")
    assert "Do.<" in marked(tokenizer, alpaca, train_on="completion")
