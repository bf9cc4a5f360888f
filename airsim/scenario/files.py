"""Scenario files on disk: bundled names, and the chain of files that extend each other."""

from pathlib import Path

from airsim.errors import ScenarioError
from airsim.scenario import names, render
from airsim.scenario.problems import Problem, kind_of
from airsim.scenario.tree import Layer
from optim import strict_yaml
from optim.places import Entry, Mark
from optim.strict_yaml import StrictYamlError

_PACKAGE = Path(__file__).resolve().parents[1]
_BUNDLED = (_PACKAGE / "presets", _PACKAGE.parent / "scenarios")  # in a wheel, in a clone


def read(source: str | Path) -> list[Layer]:
    """The layers of a file or of a bundled name: what it extends comes first."""
    path = _find(source)
    return _read_chain(path, _shown(source, path), ())


def bundled_names() -> list[str]:
    """Names of the scenarios that come along: `quickstart` and others."""
    folder = _bundled_folder()
    found = folder.rglob("*.yaml") if folder else ()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in found if folder)


def _bundled_folder() -> Path | None:
    return next((folder for folder in _BUNDLED if folder.is_dir()), None)


def _bundled(name: str) -> Path | None:
    folder = _bundled_folder()
    return folder / f"{name}.yaml" if folder and name in bundled_names() else None


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    bundled = _bundled(str(source))
    if bundled is not None:
        return bundled
    if path.is_dir():
        raise ScenarioError(
            f"{source}: is a folder\n    name a scenario file in it, for example {path / 'my.yaml'}"
        )
    raise ScenarioError(f"{source}: no such file\n    {_instead(str(source))}")


def _instead(source: str) -> str:
    bundled = bundled_names()
    close = names.nearest(Path(source).stem, bundled)
    come_along = f"the scenarios that come along are {', '.join(bundled) or 'none'}"
    return f"did you mean '{close}'? ({come_along})" if close else come_along


def _shown(source: str | Path, path: Path) -> str:
    """The file as the user named it; a bundled one relative to the working directory where it lies below."""
    if Path(source) == path:
        return str(source)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _read_chain(path: Path, shown: str, chain: tuple[Path, ...]) -> list[Layer]:
    """First what the file extends, then the file itself; `chain` are the files that lead here."""
    layer = _read(path, shown, str(chain[-1]) if chain else "")
    extends = layer.data.get("extends")
    own = Layer(
        layer.source,
        {k: v for k, v in layer.data.items() if k != "extends"},
        layer.entries,
        layer.extended_by,
    )
    if extends is None:
        return [own]
    if not isinstance(extends, str):
        problem = Problem(
            f"one file name is expected, not {kind_of(extends)}", "write extends: quickstart.yaml"
        )
        raise _at_extends(layer, problem)
    parent = _parent(path, extends)
    if parent is None:
        raise _at_extends(layer, Problem(f"no such file '{extends}' beside this one", _instead(extends)))
    files = (*chain, Path(shown))
    if any(parent.resolve() == file.resolve() for file in files):
        circle = " -> ".join([*map(str, files), str(_beside(shown, parent, extends))])
        raise _at_extends(
            layer, Problem(f"the files extend each other in a circle: {circle}", "remove one `extends`")
        )
    return [*_read_chain(parent, _beside(shown, parent, extends), files), own]


def _parent(path: Path, extends: str) -> Path | None:
    beside = path.parent / extends
    return beside if beside.is_file() else _bundled(extends.removesuffix(".yaml"))


def _beside(shown: str, parent: Path, extends: str) -> str:
    beside = Path(shown).parent / extends
    return str(beside) if beside.is_file() else _shown(extends, parent)


def _at_extends(layer: Layer, problem: Problem) -> ScenarioError:
    at_key = Problem(problem.message, problem.hint, ("extends",))
    return render.error_of([at_key], [layer])


def _read(path: Path, shown: str, extended_by: str) -> Layer:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(
            f"{shown}: is not UTF-8 text (byte {error.start})\n    save it as UTF-8"
        ) from None
    except OSError as error:
        raise ScenarioError(f"{shown}: cannot be read: {error.strerror}\n    check its permissions") from None
    first = Mark(1, 0, (text.splitlines() or [""])[0])
    try:
        document = strict_yaml.load(text)
    except StrictYamlError as error:
        raise render.error_of_flaws(error.flaws, shown, extended_by) from None
    if not isinstance(document.data, dict):
        message = f"a scenario is a mapping, not {kind_of(document.data)}"
        raise ScenarioError(render.pointed(shown, extended_by, first, message, "begin with schema: airsim/1"))
    return Layer(shown, document.data, {(): Entry(first, first), **document.entries}, extended_by)
