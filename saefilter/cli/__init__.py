"""The command line: parse, call, render. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from saefilter import __version__
from saefilter.cli.common import fail
from saefilter.cli.root import INTERRUPTED, STOPPED, App, ClickError, Output, Root, say_usage
from saefilter.errors import SaefilterError, is_out_of_memory
from saefilter.text import one_line
from saefilter.watch import Interrupted

app = App(
    name="saefilter",
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find and drop the fine-tuning samples that lie next to a model's toxic features.\n\n"
    "Example: saefilter score data.jsonl, then saefilter filter --drop-frac 10%",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"saefilter {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Options before the command."""


def commands() -> None:
    """Register the commands."""
    from saefilter.cli import (  # noqa: F401 - they register
        check,
        compare,
        doctor,
        featureedits,
        features,
        featuresets,
        filter,
        geometry,
        presets,
        review,
        score,
        scores,
        steer,
        tokens,
        verify,
    )


def main() -> None:
    """Entry point: a SaefilterError is one line on standard error and exit code 2."""
    sys.stdout, sys.stderr = Output.of(sys.stdout), Output.of(sys.stderr)
    try:
        _run()
    except SystemExit as done:
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where an error still has a say in how the program ends
        if "torch" in sys.modules:
            _leave_at_once(done)
        raise


def _leave_at_once(done: SystemExit) -> None:
    """Python would take a second to take apart the modules of torch and transformers one by one."""
    import atexit
    import multiprocessing
    import os

    if done.code is not None and not isinstance(done.code, int):
        return
    if multiprocessing.active_children():
        return  # whoever started processes ends them in its own order
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(done.code or 0)


def _run() -> None:
    commands()
    try:
        code = app(standalone_mode=False)
        if code == STOPPED:  # typer tells Ctrl-C by this code alone
            fail(INTERRUPTED, code=STOPPED)
        sys.exit(code or 0)
    except ClickError as error:
        say_usage(error)
        sys.exit(error.exit_code)
    except SystemExit as done:
        # typer takes every broken pipe for one of its own, and 1 for the code of that
        if isinstance(done.__context__, BrokenPipeError) and done.code == 1:
            fail("another process that was needed has ended (a pipe to it is broken)")
        raise
    except SaefilterError as error:
        if "--debug" in sys.argv:
            raise
        fail(str(error))
    except Interrupted as stopped:
        fail(f"stopped. {stopped}", code=stopped.exit_code)
    except KeyboardInterrupt:
        fail(INTERRUPTED, code=STOPPED)
    except Exception as error:  # 1 is the code of data that fail a gate, and nothing else's
        if is_out_of_memory(error) and "--debug" not in sys.argv:
            said = one_line(str(error))[:200]
            fail(
                f"there is not enough memory for this{f' ({said})' if said else ''}. Give it more, or fewer rows"
            )
        import traceback

        traceback.print_exc()
        fail("this is a fault of saefilter or of what it rests on; please report it")
