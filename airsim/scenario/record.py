"""What a run writes down."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator

from airsim.scenario.fields import Count, Natural, Section
from airsim.scenario.problems import Problem, ProblemsError

Subject = Literal["global", "cross-task", "devices"]

# The columns of results that are there only where their subject is evaluated.
SUBJECT_OF: Final[dict[str, Subject]] = {
    "accuracy_global": "global",
    "accuracy_global_worst_task": "global",
    "accuracy_cross_task": "cross-task",
    "accuracy_devices": "devices",
    "accuracy_worst_decile": "devices",
}


def _each_once(subjects: tuple[Subject, ...]) -> tuple[Subject, ...]:
    """In one order, so that the same choice in other words has the same name."""
    for index, subject in enumerate(subjects):
        if subject in subjects[:index]:
            raise ProblemsError(Problem(f"{subject} stands here twice", "write it once", (index,)))
    return tuple(sorted(subjects))


class Record(Section):
    """How often models are evaluated and which, and how many rounds keep their timeline.

    Every model is tested on its own task. `also_evaluate` adds the `global` model (the shared adapter alone),
    personal models on all tasks (`cross-task`), and `devices` in their own class proportions, with the worst
    decile. `head_policy` says whose head answers another task; models with one head for all ignore it.
    """

    evaluate_every: Count = 10
    also_evaluate: Annotated[tuple[Subject, ...], AfterValidator(_each_once)] = ()
    head_policy: Literal["tested-task", "own-task"] = "tested-task"
    timeline_rounds: Natural = 1
