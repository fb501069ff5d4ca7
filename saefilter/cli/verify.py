"""`saefilter verify`: do artifacts belong together?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from saefilter.cli import app, panels
from saefilter.cli import options as opt
from saefilter.cli.root import verdict

if TYPE_CHECKING:
    from saefilter.verify.findings import Findings

MARKS = {"ok": "ok       ", "mismatch": "MISMATCH ", "not found": "not found"}
ENDS = (
    "All of it belongs together.",
    "Something does not belong together.",
    "What was found belongs together; not everything could be judged.",
)


@app.command(epilog="Example: saefilter verify data.filtered.jsonl")
def verify(
    artifact: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT",
            help="Scores, a filtered, dropped or quarantined file, a report.json, a folder of filtered "
            "files or a toxic set.",
        ),
    ],
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="The data [where it was when it was scored].",
            rich_help_panel=panels.BESIDE,
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            "--scores", help="The scores [beside the artifact].", rich_help_panel=panels.BESIDE
        ),
    ] = None,
    toxic_set: Annotated[
        str | None,
        typer.Option(
            "--toxic-set", help="File or name [the recorded name].", rich_help_panel=panels.BESIDE
        ),
    ] = None,
    as_json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Check by hashes that an artifact is unchanged and belongs to its data, scores and toxic set.

    Exit code 0: all belongs together; 1: something does not; 2: it could not be judged.
    """
    from saefilter.storage import located, located_if
    from saefilter.verify.findings import Given
    from saefilter.verify.verify import verify

    findings = verify(located(artifact), Given(input, located_if(scores), toxic_set))
    if as_json:
        said = {
            "artifact": str(findings.artifact),
            "kind": findings.kind,
            "exit_code": findings.exit_code,
            "checks": [asdict(check) for check in findings.checks],
        }
        typer.echo(json.dumps(said, indent=2))
    elif not quiet:
        _print(findings)
    verdict(findings.exit_code)


def _print(findings: Findings) -> None:
    from saefilter.report.console import safe

    typer.echo(f"{safe(str(findings.artifact))}: {findings.kind}")
    width = max(len(check.name) for check in findings.checks)
    for check in findings.checks:
        typer.echo(f"  {MARKS[check.status]}  {check.name:{width}}  {safe(check.says, 400)}")
    typer.echo(ENDS[findings.exit_code])
