"""The command line of `optim`: arguments in, text and exit codes out; everything else lives elsewhere."""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from optim import summary
from optim.bounds import lower_bound
from optim.comparison import METHODS, compare, entry_of
from optim.digital import REFERENCES
from optim.files import formats, load_problem, save_solution
from optim.files.solutions import package_version, solution_tree
from optim.files.text import dump_json
from optim.infeasible import InfeasibleError
from optim.interface import solve
from optim.optional import missing_package
from optim.options import SolverOptions, options_of
from optim.solvers.catalogue import SOLVERS, build_solver

OK = 0
BAD_INPUT = 2
INFEASIBLE = 4
INTERRUPTED = 130

EXAMPLES = pathlib.Path(__file__).parent / "examples"
_EXIT_CODES = "Exit codes: 0 ok, 2 bad input, 4 infeasible, 130 interrupted."


def main(arguments: Sequence[str] | None = None, program: str = "python -m optim") -> int:
    """Run one command; its exit code comes back."""
    try:
        chosen = _parser(program).parse_args(arguments)
    except SystemExit as end:  # argparse has said what there is to say
        return int(end.code or 0)
    try:
        chosen.run(chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has read enough; the interpreter must not try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        _complain("interrupted; nothing was written")
        return INTERRUPTED
    except OSError as error:
        _complain(f"{error.filename or 'output'}: {error.strerror or error}; choose another place")
        return BAD_INPUT
    except MemoryError as error:
        _complain(f"not enough memory ({error}); choose a smaller problem")
        return BAD_INPUT
    except ImportError as error:
        _complain(f"this command {missing_package(error)}")
        return BAD_INPUT
    except InfeasibleError as error:
        _complain(str(error))
        return INFEASIBLE
    except ValueError as error:
        _complain(str(error))
        return BAD_INPUT
    return OK


def _solve(chosen: argparse.Namespace) -> None:
    options = _options(chosen)
    build_solver(chosen.method, options)  # refuses an unknown name before the file is read
    out = formats.free(chosen.out, chosen.force) if chosen.out else None
    problem = load_problem(chosen.file)
    solution = solve(problem, chosen.method, **dataclasses.asdict(options))
    if out:
        save_solution(solution, out, chosen.method, options)
    if chosen.json:
        _say(dump_json(solution_tree(solution, chosen.method, options)).rstrip())
        return
    _say(summary.of_problem(problem))
    _say(summary.of_solution(solution, chosen.method))
    if out:
        _say(f"saved {out}")


def _bound(chosen: argparse.Namespace) -> None:
    problem = load_problem(chosen.file)
    value = lower_bound(problem, tolerance=chosen.tolerance)
    if chosen.json:
        _say(dump_json({"lower_bound": value, "bound_is_loose": summary.is_loose(problem)}).rstrip())
    else:
        _say(summary.of_problem(problem))
        _say(summary.of_bound(problem, value))


def _compare(chosen: argparse.Namespace) -> None:
    for method in chosen.methods:
        entry_of(method, SolverOptions())  # refuses an unknown name before the file is read
    comparison = compare(load_problem(chosen.file), chosen.methods)
    if chosen.json:
        _say(dump_json({"rows": [dataclasses.asdict(row) for row in comparison.rows]}).rstrip())
    else:
        _say(comparison.table())


def _methods(chosen: argparse.Namespace) -> None:
    lines = {name: summary.of_method(name) for name in SOLVERS}
    if chosen.json:
        _say(dump_json(lines).rstrip())
        return
    width = max(map(len, lines))
    for name, line in lines.items():
        _say(f"{name:<{width}}  {line}")


def _example(chosen: argparse.Namespace) -> None:
    _say((EXAMPLES / f"{chosen.kind}.yaml").read_text(encoding="utf-8").rstrip())


def _options(chosen: argparse.Namespace) -> SolverOptions:
    effort: dict[str, Any] = {}
    types = {field.name: field.type for field in dataclasses.fields(SolverOptions)}
    for text in chosen.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--option {text}: write name=value, for example tolerance=1e-9")
        effort[name] = _typed(name, value, types.get(name, str))
    for name in ("starts", "seed"):
        if getattr(chosen, name) is not None:
            effort[name] = getattr(chosen, name)
    return options_of(effort)


def _typed(name: str, value: str, kind: Any) -> Any:
    try:
        return kind(value)
    except ValueError:
        wanted = "whole number" if kind is int else "number"
        raise ValueError(f"--option {name}={value}: write a {wanted} after the =") from None


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Certified transceiver design for over-the-air sums: problem files in, designs out.",
        epilog=f"Begin with: {program} example receiver > problem.yaml. {_EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=f"optim {package_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("file", metavar="FILE", help="a problem: .yaml, .json, .npz or .mat")
    shown = argparse.ArgumentParser(add_help=False)
    shown.add_argument("--json", action="store_true", help="print JSON in place of text")
    _add(commands, "solve", _solve, "a design with its error and a certified lower bound", [file, shown])
    _effort_arguments(commands.choices["solve"])
    _add(commands, "bound", _bound, "the error that no design can beat", [file, shown])
    commands.choices["bound"].add_argument(
        "--tolerance", type=float, metavar="T", help="relative distance to the best bound there is"
    )
    _add(commands, "compare", _compare, "a table of methods: error, gap, time", [file, shown])
    commands.choices["compare"].add_argument(
        "--methods",
        type=lambda names: [name.strip() for name in names.split(",")],
        default=list(METHODS),
        metavar="A,B,C",
        help=f"which ones (default: {','.join(METHODS)}); digital references: {', '.join(REFERENCES)}",
    )
    _add(commands, "methods", _methods, "every method by name", [shown])
    _add(commands, "example", _example, "print a commented problem file", [])
    commands.choices["example"].add_argument("kind", choices=("receiver", "combined"))
    return parser


def _add(commands: Any, name: str, run: Callable[[Any], None], does: str, parents: list[Any]) -> None:
    command = commands.add_parser(name, help=does, description=does.capitalize() + ".", parents=parents)
    command.set_defaults(run=run)


def _effort_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--method", default="auto", metavar="M", help="a name out of `methods`")
    command.add_argument("--starts", type=int, metavar="N", help="starting points (default: 8)")
    command.add_argument("--seed", type=int, metavar="S", help="of the starting points (default: 0)")
    command.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="any other option, e.g. gap=1e-2"
    )
    command.add_argument("--out", metavar="FILE", help="where to write: .json, .yaml, .npz or .mat")
    command.add_argument("--force", action="store_true", help="overwrite --out")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")
