"""ProblemsError with the line that causes them."""

from collections.abc import Sequence

from airsim.errors import ScenarioError
from airsim.scenario.problems import Problem, dotted
from airsim.scenario.tree import Layer, Origin, locate, within_override
from optim.places import Entry, Flaw, Mark, excerpt


def error_of(problems: Sequence[Problem], layers: Sequence[Layer]) -> ScenarioError:
    """All problems as one error, in the order of the files and their lines."""
    blocks = sorted((_block(problem, layers) for problem in problems), key=lambda block: block[0])
    return ScenarioError("\n".join(dict.fromkeys(text for _, text in blocks)))


def error_of_flaws(flaws: Sequence[Flaw], source: str, extended_by: str) -> ScenarioError:
    """What the YAML reader refuses, in the same form."""
    return ScenarioError(
        "\n".join(
            pointed(source, extended_by, f.mark, _said(dotted(f.path), f.message), f.hint) for f in flaws
        )
    )


def pointed(source: str, extended_by: str, mark: Mark, said: str, hint: str) -> str:
    """File, line, what is wrong; the line itself; and the way out below the place."""
    via = f" (extended by {extended_by})" if extended_by else ""
    return f"{source}:{mark.line}{via}: {said}\n{excerpt(mark, hint)}"


def _block(problem: Problem, layers: Sequence[Layer]) -> tuple[tuple[int, int, int], str]:
    path, origin = _blamed(problem, layers)
    said = problem.said_at(path)
    if origin is None:
        source = layers[0].source
        return (0, 0, 0), f"{source}: {said}\n    {problem.hint}"
    if origin.entry is None:
        offset = 3 if problem.names_key else origin.layer.source.index("=") + 1
        return (origin.depth, 0, 0), f"{origin.layer.source}: {said}\n{' ' * offset}^ {problem.hint}"
    mark = _mark(origin.entry, problem, len(origin.found) == len(path))
    text = pointed(origin.layer.source, origin.layer.extended_by, mark, said, problem.hint)
    return (origin.depth, mark.line, mark.column), text


def _blamed(problem: Problem, layers: Sequence[Layer]) -> tuple[tuple[str | int, ...], Origin | None]:
    """Of all paths with a part in it, the one written in the topmost layer; else the problem's own."""
    best, best_depth = problem.path, -1
    for path in (problem.path, *problem.others):
        origin = locate(layers, path)
        if origin is not None and origin.found == path and origin.depth > best_depth:
            best, best_depth = path, origin.depth
    origin = locate(layers, best)
    return best, origin if origin is not None and origin.found == best else within_override(
        layers, best
    ) or origin


def _mark(entry: Entry, problem: Problem, is_whole_path: bool) -> Mark:
    points_at_value = is_whole_path and not problem.names_key and entry.value.line == entry.key.line
    return entry.value if points_at_value else entry.key


def _said(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message
