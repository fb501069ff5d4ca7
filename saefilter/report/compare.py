"""The page of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saefilter.report.charts import Line, kinds, line_chart
from saefilter.report.compare_text import (
    COST_HINT,
    alone,
    area,
    chance,
    cost_seconds,
    cost_tokens,
    costs_once,
    counted,
    headline,
    label_word,
    lead,
    precision,
    recall,
)
from saefilter.report.fragments import bdi, esc, fold, header, notes, page, section
from saefilter.text import percent, place

if TYPE_CHECKING:
    from saefilter.compare.data import Arm, Comparison, Excerpt, Overlap

_SCROLL = '<div class="scroll" tabindex="0" role="group" aria-label="Table">\n'
"""Around tables that are wider than a phone."""


def compare_html(comparison: Comparison) -> str:
    """The whole comparison as one self-contained page."""
    return page(
        f"{headline(comparison)} {comparison.input}",
        header(
            "saefilter compare",
            f"{esc(headline(comparison))} {bdi(comparison.input)}",
            lead(comparison),
        ),
        notes(comparison.notes),
        _table(comparison),
        _costs(comparison),
        _charts(comparison),
        _overlaps(comparison),
        _alone(comparison),
        _made(comparison),
    )


def _table(comparison: Comparison) -> str:
    if comparison.base_rate is None:
        return ""
    heads = "".join(f'<th scope="col">{percent(share)}</th>' for share in comparison.fractions)
    rows = "".join(_row(arm) for arm in comparison.arms)
    return section(
        "found",
        "What each finds",
        '<p class="hint">Of the rows that are dropped, the share that is bad (precision); below it, '
        "of all bad rows, the share that is dropped (recall). AUROC: the chance that a bad row comes "
        "before a good one, with its 95 % bootstrap interval; 0.5 is chance.</p>\n",
        _SCROLL
        + '<table class="numbers arms">\n<thead><tr><th scope="col" rowspan="2">Strategy</th>'
        '<th scope="col" rowspan="2">AUROC</th>'
        f'<th scope="colgroup" colspan="{len(comparison.fractions)}">Precision and recall when '
        'dropping</th><th scope="col" rowspan="2">1,000 rows take</th></tr>\n'
        f"<tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n",
    )


def _row(arm: Arm) -> str:
    cells = "".join(
        f'<td title="{esc(counted(at))}"><b>{precision(at)}</b><span class="near">{recall(at)}</span>'
        "</td>"
        for at in arm.at
    )
    about = '<span class="near">control</span>' if arm.control else ""
    return (
        f'<tr><th scope="row">{bdi(arm.name)}{about}</th><td>{esc(area(arm))}</td>{cells}'
        f"{_cost(arm)}</tr>\n"
    )


def _cost(arm: Arm) -> str:
    tokens = "" if arm.cost.tokens is None else f"{cost_tokens(arm)} tokens"
    return f'<td>{cost_seconds(arm)}<span class="near">{tokens}</span></td>'


def _costs(comparison: Comparison) -> str:
    """What the column of costs means; the costs themselves where there is no table of what is found."""
    rows = "".join(
        f'<tr><th scope="row">{bdi(arm.name)}</th>{_cost(arm)}</tr>\n' for arm in comparison.arms
    )
    heads = '<tr><th scope="col">Strategy</th><th scope="col">1,000 rows take</th></tr>'
    grid = (
        f'{_SCROLL}<table class="numbers arms">\n<thead>{heads}</thead>\n<tbody>\n{rows}</tbody>\n'
        "</table>\n</div>\n"
    )
    told = "".join(
        f'<p class="hint">{bdi(name)}: {esc(what)}</p>\n' for name, what in costs_once(comparison)
    )
    return section(
        "costs", "What each costs", f'<p class="hint">{COST_HINT}</p>\n',
        grid if comparison.base_rate is None else "", told,
    )  # fmt: skip


def _charts(comparison: Comparison) -> str:
    line_kinds = kinds([arm.control for arm in comparison.arms])
    pairs = list(zip(comparison.arms, line_kinds, strict=True))

    def lines(value: str, start: tuple[float, float] | None = None) -> list[Line]:
        made = []
        for arm, kind in pairs:
            values = getattr(arm.curve, value)
            points = [
                (x, y) for x, y in zip(arm.curve.drop_frac, values, strict=True) if y is not None
            ]
            made.append(Line(arm.name, kind, [*([start] if start else []), *points]))
        return made

    if comparison.base_rate is None:
        others = [line for line in lines("overlap")[1:] if line.name != comparison.arms[0].name]
        if not others:
            return ""
        return section(
            "curves",
            f"Overlap with {bdi(comparison.arms[0].name)}",
            '<p class="hint">Rows that both drop, over rows that either drops.</p>\n',
            line_chart("overlap", "Overlap over the dropped share", "overlap", others),
        )
    return section(
        "curves",
        "Over the dropped share",
        line_chart("recall", "Recall over the dropped share", "recall", lines("recall", (0, 0))),
        line_chart(
            "precision", "Precision over the dropped share", "precision", lines("precision")
        ),
    )


def _overlaps(comparison: Comparison) -> str:
    if len(comparison.arms) < 2:
        return ""
    shown = next(o for o in comparison.overlaps if o.drop_frac == comparison.detail_frac)
    others = [overlap for overlap in comparison.overlaps if overlap is not shown]
    more = fold("Other shares", "".join(_matrix(overlap, comparison) for overlap in others))
    return section(
        "overlaps",
        "Do they drop the same rows?",
        '<p class="hint">Rows that both drop, over rows that either drops (Jaccard): 1 is the same '
        "rows.</p>\n",
        _matrix(shown, comparison),
        more if others else "",
    )


def _matrix(overlap: Overlap, comparison: Comparison) -> str:
    names = [arm.name for arm in comparison.arms]
    heads = "".join(f'<th scope="col">{number}</th>' for number in range(1, len(names) + 1))
    rows = "".join(
        f'<tr><th scope="row">{number + 1}. {bdi(name)}</th>'
        + "".join(
            f'<td class="heat{min(5, int(5 * value))}">{value:.2f}</td>'
            if other != number
            else "<td>·</td>"
            for other, value in enumerate(overlap.jaccard[number])
        )
        + "</tr>\n"
        for number, name in enumerate(names)
    )
    return (
        f'{_SCROLL}<table class="numbers matrix">\n<caption>{chance(overlap)}</caption>\n'
        f"<thead><tr><th></th>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )


def _alone(comparison: Comparison) -> str:
    arms = [arm for arm in comparison.arms if not arm.control]
    if len(arms) < 2:
        return ""
    folds = []
    for arm in arms:
        title = f"{bdi(arm.name)}: {esc(alone(arm, comparison))}"
        if not arm.only:
            folds.append(f'<p class="empty">{title}</p>\n')
            continue
        rows = "".join(_excerpt(excerpt) for excerpt in arm.only)
        folds.append(fold(title, f'<table class="excerpts">\n<tbody>\n{rows}</tbody>\n</table>\n'))
    return section(
        "alone",
        "What each drops that the others keep",
        '<p class="hint">Controls do not count as others. The first to be dropped of each; the JSON '
        "has more row ids.</p>\n",
        *folds,
    )


def _excerpt(excerpt: Excerpt) -> str:
    word = label_word(excerpt)
    tag = f'<span class="tag {word}">{word}</span>' if word else ""
    where = place(excerpt.line, excerpt.file)
    question = f'<p class="near">{bdi(excerpt.prompt)}</p>' if excerpt.prompt else ""
    return f'<tr><th scope="row">{bdi(where)}{tag}</th><td>{question}<p>{bdi(excerpt.answer)}</p></td></tr>\n'


def _made(comparison: Comparison) -> str:
    terms = [
        ("Input", comparison.input),
        ("Input SHA-256", comparison.input_sha256),
        *(
            (f"Scores {number}", ", ".join(str(value) for value in one.values() if value))
            for number, one in enumerate(comparison.scores, start=1)
        ),
        ("Labels", _words(comparison.labels) if comparison.labels else "none"),
        *((f"{arm.name}", _words(arm.details)) for arm in comparison.arms if arm.details),
        ("Seed", str(comparison.seed)),
        ("Made by", f"saefilter {comparison.version}"),
        ("Made at", comparison.created),
    ]
    rows = "".join(
        f'<tr><th scope="row">{bdi(term)}</th><td>{bdi(value)}</td></tr>\n' for term, value in terms
    )
    return section(
        "made", "How this was made", f'<table class="made"><tbody>{rows}</tbody></table>\n'
    )


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return "; ".join(map(_words, value)) if isinstance(value, list) else str(value)
