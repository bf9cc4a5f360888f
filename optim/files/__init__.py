"""Problems and solutions as files."""

from optim.files.problems import load_problem, save_problem
from optim.files.solutions import load_solution, save_solution
from optim.files.source import FileError

__all__ = ["FileError", "load_problem", "load_solution", "save_problem", "save_solution"]
