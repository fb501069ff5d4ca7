"""What a gate says of one dataset: measured value, limit and worst rows of each rule."""

from __future__ import annotations

from dataclasses import dataclass, field

DIGITS = 4


def rounded(value: float) -> float:
    """To four significant digits, once: the number that is compared is the one that is printed.

    Digits that count from the first one on, and not decimals, keep one row in a million above zero.
    """
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class WorstRow:
    """A row to look at. Its file, labels and reason are untrusted."""

    row_id: int
    row_hash: str
    file: str
    """Path as a person would name it."""
    line: int
    """In a text file; the number of the row or item in others."""
    has_lines: bool
    """Whether `line` is a line of a text file."""
    proximity: float | None
    percentile: float | None
    features: tuple[str, ...] = ()
    """Labels of what brings it close, strongest first."""
    reason: str | None = None
    """Why it could not be scored."""
    reference: str | None = None
    """What the user calls the reference rows; None where they are the toxic set's. Untrusted."""
    p: float | None = None
    """Probability that a row like the reference rows is as close (`conformal_p`)."""
    themes: tuple[str, ...] = ()
    """Of the toxic set, that stand out in it, each with the words that carry it. Untrusted."""
    closest: str | None = None
    """The toxic set's example that it is most like."""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.has_lines else f"{self.file} row {self.line}"


@dataclass(frozen=True)
class RuleVerdict:
    """One rule's verdict."""

    rule: str
    """`max-flagged`, `max-proximity`, ..."""
    measured: float
    """Rounded; what is compared."""
    limit: float
    unit: str
    """`%` or nothing."""
    at_least: bool
    """Whether the limit is the smallest value that passes, rather than the largest."""
    detail: str
    """What was counted, as a sentence. May quote labels, which are untrusted."""
    count: int = 0
    """How many rows there are to look at; `rows` has the worst of them."""
    rows: tuple[WorstRow, ...] = ()

    @property
    def passed(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def comparison(self) -> str:
        """`5.2% > 5%`"""
        passing, failing = (">=", "<") if self.at_least else ("<=", ">")
        sign = passing if self.passed else failing
        return f"{number(self.measured)}{self.unit} {sign} {number(self.limit)}{self.unit}"


@dataclass(frozen=True)
class Power:
    """How probably a share of bad rows would fail the policy in a file like this one."""

    source: str
    """Of the contrast data: the kind of bad rows. Untrusted."""
    share: float
    """Bad rows, in percent of all."""
    probability: float
    low: float
    high: float
    """With the held-out rates at the ends of their 95 % intervals."""


@dataclass(frozen=True)
class Suggested:
    """The share of bad rows that a file's flagged ones come from, if bad rows are like those of one source."""

    source: str
    """Of the contrast data. Untrusted."""
    share: float
    """0 to 1."""
    low: float
    high: float
    """95 % interval."""


@dataclass(frozen=True)
class BadShare:
    """What is known of the share of bad rows; both parts take the harmless rows for such as the reference's."""

    least: float
    """At least so many are bad, 0 to 1, at 95 % confidence, whatever bad rows are like."""
    at_fpr: float
    """Where that was found: percent of the reference rows that are flagged."""
    suggested: tuple[Suggested, ...] = ()
    """For each source of bad rows whose held-out rates are known."""


@dataclass(frozen=True)
class WrongWay:
    """How many rows of preference data push towards toxic features."""

    kind: str
    """`pairs` or `labelled`, of rows.sides.KINDS."""
    count: int
    rows: int
    """Scored ones."""
    share: float
    """0 to 1."""
    low: float
    high: float
    """95 % interval of the share, which counts like rows as alike."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one dataset."""

    input: str
    rows: int
    scored: int
    """That the model has read."""
    quarantined: int
    preset: str
    model: str
    toxic_set: str
    metric: str
    policy: str
    """Where the limits are from."""
    rules: tuple[RuleVerdict, ...]
    notes: tuple[str, ...] = ()
    power: tuple[Power, ...] = ()
    power_unknown: str | None = None
    """Why there is none, where a rule rests on it."""
    bad_share: BadShare | None = None
    """None without percentiles, or where the toxic set does not tell."""
    wrong_way: WrongWay | None = None
    """None of data that train on answers as they stand."""
    judged: int | None = None
    """Rows that the rules count: those drawn at random, where a cascade left others unread; None for all that
    were scored."""

    def __repr__(self) -> str:
        rules = "; ".join(f"{one.rule} {one.comparison}" for one in self.failed_rules or self.rules)
        return f"Verdict({'PASS' if self.passed else 'FAIL'}: {rules})"

    def _repr_html_(self) -> str:
        """For a notebook: each rule, and the worst rows of those that fail."""
        from saefilter.report.notebook import N_ROWS, Shown, Table

        words = {True: "pass", False: "FAIL"}
        rules = [(one.rule, one.comparison, words[one.passed], one.detail) for one in self.rules]
        worst = [
            (one.rule, row.place, row.reason or ", ".join(row.themes or row.features))
            for one in self.failed_rules
            for row in one.rows[:N_ROWS]
        ]
        return Shown(
            f"{'PASS' if self.passed else 'FAIL'}: {self.scored:,} of {self.rows:,} rows scored",
            self.notes,
            tables=(
                Table("", ("rule", "measured", "", "what was counted"), rules),
                Table("Rows to look at", ("rule", "row", "by"), worst),
            ),
        ).to_html()

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)

    @property
    def failed_rules(self) -> list[RuleVerdict]:
        return [rule for rule in self.rules if not rule.passed]


@dataclass(frozen=True)
class Unjudged:
    """A dataset on which there is no verdict, and why."""

    input: str
    error: str


@dataclass(frozen=True)
class Outcome:
    """What a run of the gate came to."""

    verdicts: list[Verdict] = field(default_factory=list)
    unjudged: list[Unjudged] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: all pass; 1: a dataset fails its policy; 2: there is no verdict on one."""
        if self.unjudged:
            return 2
        return 0 if all(verdict.passed for verdict in self.verdicts) else 1


def number(value: float) -> str:
    """A measured value or a limit, with all its digits and no more."""
    return f"{value:.10g}"
