"""Packages that only some methods and file formats need."""

# Module: the package that holds it, and what needs it.
_OPTIONAL = {
    "cvxpy": ("cvxpy", "the convex methods do"),
    "yaml": ("PyYAML", "YAML files do, JSON and NPZ do not"),
    "scipy": ("scipy", "MAT files and the convex methods do"),
}


def missing_package(error: ImportError) -> str:
    """What to install, as the rest of a sentence.

    Raises:
        ImportError: the given one, if it is about anything else.
    """
    module = (error.name or "").partition(".")[0]
    if module not in _OPTIONAL:
        raise error
    package, use = _OPTIONAL[module]
    return f"needs {package}, which is not installed ({use}): pip install {package}"
