"""The command line: arguments in, exit codes out; everything else lives elsewhere."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from airsim.scenario import Scenario

BAD_INPUT = 2
INTERRUPTED = 130
SOME_FAILED = 3

app = typer.Typer(
    name="airsim",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Federated LoRA over the air: simulate rounds over fading channels, sweep them, plot them.",
)
verify = typer.Typer(no_args_is_help=True, help="Hold implementations against their definitions.")
app.add_typer(verify, name="verify")

File = Annotated[
    str, typer.Argument(help="A scenario file, or the name of a bundled one such as quickstart.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help='Override a value, e.g. -s channel.snr="0 dB".'),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="The very folder to write (default: one under runs/).")
]


def _print_version(asked: bool) -> bool:
    if asked:
        import airsim

        typer.echo(airsim.__version__)
        raise typer.Exit
    return asked


@app.callback()
def _airsim(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    pass


@app.command("run")
def _run(
    file: File,
    overrides: Overrides = None,
    out: Out = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads that share a large cohort's devices; the bits stay the same.")
    ] = 1,
) -> None:
    """Simulate one scenario and keep the run: metrics, adapters, manifest."""
    with _told_plainly():
        from airsim.report.progress import show_run

        scenario = _load(file, overrides)
        show_run(scenario, out, threads)


@app.command("sweep")
def _sweep(
    file: File,
    overrides: Overrides = None,
    out: Out = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials that run at the same time.")] = 1,
) -> None:
    """Run every trial of a scenario's sweep block; finished trials are not repeated."""
    with _told_plainly():
        from airsim.report.progress import show_sweep

        failed = show_sweep(_load(file, overrides), out, workers)
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command("plot")
def _plot(
    folder: Annotated[Path, typer.Argument(help="A sweep folder or a run folder.")],
    out: Annotated[Path | None, typer.Option("--out", help="Where to write (default: DIR/figures).")] = None,
) -> None:
    """Draw a sweep or a run: PDF and PNG, each with the CSV it shows."""
    with _told_plainly():
        from airsim.report.progress import show_figures

        show_figures(folder, out)


@app.command("check")
def _check(file: File, overrides: Overrides = None) -> None:
    """Print a scenario's resolved values, link budget, rounds and channel uses; runs nothing."""
    with _told_plainly():
        from airsim.report.check import show_check

        show_check(_load(file, overrides))


@app.command("methods")
def _methods(
    name: Annotated[str | None, typer.Argument(help="One method, such as flexlora (default: all).")] = None,
) -> None:
    """Print the aggregation methods: definition, cost, what they need of the air, source."""
    with _told_plainly():
        from airsim.report.methods import show_methods

        show_methods(name)


@verify.command("aggregation")
def _verify_aggregation() -> None:
    """Run every aggregation method against a dense oracle in double precision."""
    with _told_plainly():
        from airsim.report.verification import show_aggregation

        broken = show_aggregation()
    if broken:
        raise typer.Exit(SOME_FAILED)


@app.command("optim", context_settings={"ignore_unknown_options": True, "help_option_names": []})
def _optim(arguments: Annotated[list[str] | None, typer.Argument(metavar="COMMAND ...")] = None) -> None:
    """Design power and beamforming alone: the same as `python -m optim`."""
    from optim import cli

    raise typer.Exit(cli.main(arguments or [], "airsim optim"))


def _load(file: str, overrides: list[str] | None) -> "Scenario":
    from airsim.scenario import Scenario, parse_overrides

    return Scenario.load(file, parse_overrides(overrides or []))


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Errors that airsim foresees become a message and an exit code; others keep their traceback."""
    from airsim.errors import AirsimError

    try:
        yield
    except AirsimError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        typer.echo(f"{named}{error.strerror or error}; choose another folder, or free this one", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except MemoryError as error:
        typer.echo(f"not enough memory ({error}): choose smaller sizes", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; what was finished is kept, and the same command does the rest", err=True)
        raise typer.Exit(INTERRUPTED) from None


def main() -> None:
    """Entry point of the command `airsim`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's end is an interrupt, too
    sys.exit(app())
