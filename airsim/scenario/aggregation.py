"""How devices train, what they send, and how the server merges what it hears."""

from typing import Annotated, Final, Literal

from pydantic import model_validator

from airsim.scenario.fields import Count, Flag, Fraction, NotNegative, Positive, Section, Share, exactly
from airsim.scenario.problems import Problem, ProblemsError

GRADIENT_METHOD: Final = "airpfed-lora"
# Methods that need every single upload, and those of them that could as well use one sum of dense products.
NONLINEAR_METHODS = ("sp", "sp-base-dropping", "flexlora", "flora", "fedex-lora", "lora-fair", "fedinc")
DENSE_METHODS = tuple(method for method in NONLINEAR_METHODS if method != "fedinc")
FULL_MODEL_METHODS = ("fedavg", "fedprox", "scaffold", "moon")
# Methods that send changes alone; the gradients of GRADIENT_METHOD are none of these.
CHANGE_METHODS = ("lora-a2", "scaffold")
# Methods on adapters beside which heads can be trained; `method_checks` says why others cannot. Heads of the
# second group never leave their devices.
PERSONAL_HEAD_METHODS = ("fedsa-lora",)
HEAD_METHODS = ("ps", "fedit", "ffa-lora", "rolora", "colr", "zero-padding", "rbla", *PERSONAL_HEAD_METHODS)
MIXED_RANK_METHODS = (
    "zero-padding",
    "hetlora",
    "rbla",
    "flexlora",
    "sp",
    "sp-base-dropping",
    "flora",
    "fedsa-lora",
    "colr",
)

MethodName = Literal[
    "airpfed-lora",
    "ps",
    "fedit",
    "ffa-lora",
    "rolora",
    "fedsa-lora",
    "colr",
    "zero-padding",
    "hetlora",
    "rbla",
    "lora-a2",
    "sp",
    "sp-base-dropping",
    "flexlora",
    "flora",
    "fedex-lora",
    "lora-fair",
    "fedinc",
    "fedavg",
    "fedprox",
    "scaffold",
    "moon",
]


class Aggregation(Section):
    """The rule by which the server merges what it hears; `airsim methods` describes each.

    What travels is the change since the last broadcast, or by `sends: factors` what devices hold (refused for
    methods that send changes alone). The other fields belong to single methods; the rest leave them alone.
    """

    method: MethodName = GRADIENT_METHOD
    sends: Literal["change", "factors"] = "change"
    split: Literal["left", "even"] = "left"
    b_rounds: Literal["even", "odd"] = "even"
    kept_share: Share = 0.99
    tail_weight: NotNegative = 0.005
    budget: Count = 2
    clusters: Count = 2
    distance: Literal["cosine", "squared"] = "cosine"
    proximal_weight: NotNegative = 0.01
    contrastive_weight: NotNegative = 1.0
    temperature: Positive = 0.5


class Participation(Section):
    """How many devices take part in a round, drawn anew each time: all, unless a field is given.

    Give a `share` of all devices (to the nearest whole number, at least one), or how many `devices`.
    """

    share: Share | None = None
    devices: Count | None = None

    @model_validator(mode="after")
    def _check(self) -> "Participation":
        if self.share is not None and self.devices is not None:
            message = f"share {self.share:g} and devices {self.devices} are both given"
            raise ProblemsError(Problem(message, "give one of them", ("share",), (("devices",),)))
        return self

    def of(self, num_devices: int) -> int:
        """Devices per round, of so many."""
        if self.devices is not None:
            return self.devices
        return num_devices if self.share is None else max(1, int(self.share * num_devices + 0.5))


class Server(Section):
    """The step that receivers take on aggregated gradients, with `learning.learning_rate`.

    `momentum` belongs to `momentum`, `betas` and `epsilon` to `adam`, which is `adamw` without weight decay.
    Every receiver remembers its own aggregates from round to round.
    """

    optimiser: Literal["sgd", "momentum", "adam"] = "sgd"
    momentum: Fraction = 0.9
    betas: Annotated[tuple[Fraction, Fraction], exactly(2, "[0.9, 0.999]")] = (0.9, 0.999)
    epsilon: Positive = 1e-8


class Training(Section):
    """What devices do between two uploads, with `learning.learning_rate` and `learning.batch`.

    Give `epochs` over the device's data, or `steps`. `keep_state` carries momenta over to the next
    round.
    """

    optimiser: Literal["sgd", "momentum", "adamw"] = "sgd"
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 0.0
    steps: Count | None = None
    epochs: Count | None = None
    keep_state: Flag = False

    @model_validator(mode="after")
    def _check(self) -> "Training":
        if self.steps is not None and self.epochs is not None:
            message = f"steps {self.steps} and epochs {self.epochs} are both given"
            raise ProblemsError(Problem(message, "give one of them", ("steps",), (("epochs",),)))
        return self

    @property
    def local_steps(self) -> int | None:
        """Steps per round where they are counted: one unless epochs are given."""
        return 1 if self.steps is None and self.epochs is None else self.steps
