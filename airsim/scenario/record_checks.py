"""What a run cannot write down, before anything is built."""

from collections.abc import Sequence

from airsim.scenario.aggregation import PERSONAL_HEAD_METHODS, Aggregation
from airsim.scenario.problems import Path, Problem
from airsim.scenario.record import SUBJECT_OF, Record
from airsim.scenario.sweep import Figure, Sweep
from airsim.scenario.texts import Transformer

# Methods whose server holds no model that all have in common.
WITHOUT_GLOBAL_MODEL = {
    "fedsa-lora": "the factor B of every device is its own",
    "fedinc": "every cluster has a model of its own",
}


def problems(record: Record, aggregation: Aggregation) -> list[Problem]:
    """Subjects that a method does not have."""
    method = aggregation.method
    if "global" not in record.also_evaluate or method not in WITHOUT_GLOBAL_MODEL:
        return []
    message = f"{method} has no global model: {WITHOUT_GLOBAL_MODEL[method]}"
    hint = "leave global out, or choose another aggregation.method"
    return [Problem(message, hint, ("record", "also_evaluate"), (("aggregation", "method"),))]


def head_problems(record: Record, aggregation: Aggregation, model: object) -> list[Problem]:
    """Heads that never leave their devices, with which no other task can answer."""
    personal = isinstance(model, Transformer) and model.heads == "trained"
    asked = "cross-task" in record.also_evaluate and record.head_policy == "tested-task"
    if not (personal and asked and aggregation.method in PERSONAL_HEAD_METHODS):
        return []
    message = f"trained heads of {aggregation.method} stay on their devices: no other task has them"
    places: tuple[Path, ...] = (("record", "also_evaluate"), ("learning", "model", "heads"))
    return [Problem(message, "set head_policy: own-task", ("record", "head_policy"), places)]


def figure_problems(figures: Sequence[Figure], sweep: Sweep | None, record: Record) -> list[Problem]:
    """Figures of what no run measures; a sweep over `record` decides that point by point."""
    if sweep is None or any(key.split(".")[0] == "record" for key in sweep.grid):
        return []
    found = []
    for index, figure in enumerate(figures):
        subject = SUBJECT_OF.get(figure.y)
        if subject is not None and subject not in record.also_evaluate:
            hint = f"add record.also_evaluate: [{subject}]"
            problem = Problem(f"{figure.y} is not measured", hint, ("figures", index, "y"))
            found.append(problem)
    return found
