"""What is learned: model, frozen base, data, tasks and adapters."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from airsim.scenario.aggregation import Participation, Server, Training
from airsim.scenario.fields import (
    NOT_EMPTY,
    AllOrCount,
    Batch,
    Count,
    Fraction,
    Label,
    Natural,
    Pattern,
    Positive,
    Section,
    Text,
    TorchDevice,
    default_kind,
    exactly,
)
from airsim.scenario.partition import DirichletPartition, Partition
from airsim.scenario.problems import Problem, ProblemsError, raise_any
from airsim.scenario.texts import TextData, Transformer

POOL_IMAGES = {"digits": 1797, "mnist": 60_000}  # public and training images come from this pool
IMAGE_SIDES = {"digits": 8, "mnist": 28}
TEST_IMAGES = {"mnist": 10_000}  # a data set without its own test images is tested on the pool


class PretrainedBase(Section):
    """A base trained on the public images, which no device holds."""

    kind: Literal["pretrained"] = "pretrained"
    steps: Count = 400
    batch: Count = 64
    learning_rate: Positive = 0.1
    momentum: Fraction = 0.9


class RandomBase(Section):
    """A base that knows nothing."""

    kind: Literal["random"] = "random"


class BaseFile(Section):
    """A base from a safetensors file, relative to the working directory."""

    kind: Literal["file"] = "file"
    path: Text


Base = Annotated[
    PretrainedBase | RandomBase | BaseFile, Field(discriminator="kind"), default_kind("pretrained")
]


class Mlp(Section):
    """A multilayer perceptron with frozen weights under the adapters."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Count, ...] = (64, 64)
    base: Base = Field(default_factory=PretrainedBase)


class Cnn(Section):
    """Convolutions with one square window (strides take the place of pooling), then linear layers.

    Adapters sit on the layers in whose names (`conv0`, `conv1`, ..., `linear0`, ...) `adapted_layers` is
    found, a regular expression.
    """

    kind: Literal["cnn"] = "cnn"
    channels: Annotated[tuple[Count, ...], NOT_EMPTY] = (8, 16)
    kernel: Count = 3
    stride: Count = 2
    padding: Natural = 1
    hidden: tuple[Count, ...] = (32,)
    adapted_layers: Pattern = "conv|linear"
    base: Base = Field(default_factory=PretrainedBase)

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers, from input to output."""
        linears = len(self.hidden) + 1
        return [f"conv{i}" for i in range(len(self.channels))] + [f"linear{i}" for i in range(linears)]

    @model_validator(mode="after")
    def _check(self) -> "Cnn":
        place, names = ("adapted_layers",), ", ".join(self.layer_names)
        if not any(re.search(self.adapted_layers, name) for name in self.layer_names):
            message = f"'{self.adapted_layers}' is found in no layer: nothing would be learned"
            raise ProblemsError(Problem(message, f"layers are {names}", place, (("hidden",), ("channels",))))
        if self.padding >= self.kernel:
            message = (
                f"padding {self.padding} gives windows of {self.kernel} x {self.kernel} that see no image"
            )
            hint = f"set padding to at most {self.kernel - 1}, or raise kernel"
            raise ProblemsError(Problem(message, hint, ("padding",), (("kernel",),)))
        return self

    def misfit(self, side: int) -> Problem | None:
        """What keeps the windows from fitting on square images of this side."""
        for index in range(len(self.channels)):
            padded = side + 2 * self.padding
            if self.kernel > padded:
                message = (
                    f"kernel {self.kernel} does not fit on the {side} x {side} map that conv{index} sees"
                )
                hint = f"lower it to {padded}, raise padding, or lower stride or the number of channels"
                return Problem(message, hint, ("kernel",), (("padding",), ("stride",), ("channels",)))
            side = (padded - self.kernel) // self.stride + 1
        return None


class Task(Section):
    """One task: two swapped labels (its own label code) and its share of the training images."""

    swap: Annotated[tuple[Label, Label], exactly(2, "[1, 7]")] | None = None
    share: Positive = 1.0

    @model_validator(mode="after")
    def _check(self) -> "Task":
        if self.swap is not None and self.swap[0] == self.swap[1]:
            hint = "name two different labels, or leave swap out"
            raise ProblemsError(Problem(f"{list(self.swap)} swaps a label with itself", hint, ("swap",)))
        return self


class ImageData(Section):
    """Images, how many serve which purpose, and what makes the tasks differ.

    `training_images` and `test_images` may be `all` (None here): all that is left.
    """

    kind: Literal["images"] = "images"
    name: Literal["digits", "mnist"] = "digits"
    public_images: Count = 300
    training_images: AllOrCount = 400
    test_images: AllOrCount = 700
    camera: Literal["quarter-turn", "upright"] = "quarter-turn"
    tasks: Annotated[tuple[Task, ...], NOT_EMPTY] = (
        Task(swap=(1, 7), share=8.0),
        Task(swap=(3, 8), share=4.0),
        Task(swap=(4, 9), share=2.0),
        Task(swap=(5, 6), share=1.0),
    )
    partition: Annotated[Partition, default_kind("dirichlet")] = Field(default_factory=DirichletPartition)

    @property
    def max_training_images(self) -> int:
        """Training images of all tasks together, with `all` resolved."""
        taken = self.public_images + (0 if self.name in TEST_IMAGES else self.test_images or 0)
        return POOL_IMAGES[self.name] - taken if self.training_images is None else self.training_images

    def images_of_task(self, task_index: int) -> int:
        """Training images of one task by its share, rounded down."""
        total_share = sum(task.share for task in self.tasks)
        return int(self.max_training_images * self.tasks[task_index].share / total_share + 1e-9)

    @model_validator(mode="after")
    def _check(self) -> "ImageData":
        raise_any(self._pool_problems() if self.name in TEST_IMAGES else self._shared_pool_problems())
        return self

    def _shared_pool_problems(self) -> list[Problem]:
        if self.training_images is None and self.test_images is None:
            message = f"training_images and test_images cannot both be all: {self.name} is one pool of images"
            return [
                Problem(
                    message, "write a number for one of the two", ("test_images",), (("training_images",),)
                )
            ]
        wanted = {"public_images": self.public_images, "training_images": self.training_images or 1}
        return self._excess({**wanted, "test_images": self.test_images or 1}, POOL_IMAGES[self.name])

    def _pool_problems(self) -> list[Problem]:
        wanted = {"public_images": self.public_images, "training_images": self.training_images or 1}
        problems = self._excess(wanted, POOL_IMAGES[self.name])
        return problems + self._excess({"test_images": self.test_images or 1}, TEST_IMAGES[self.name])

    def _excess(self, wanted: dict[str, int], available: int) -> list[Problem]:
        total = sum(wanted.values())
        if total <= available:
            return []
        largest = max(wanted, key=lambda name: wanted[name])
        parts = " + ".join(f"{name} {count}" for name, count in wanted.items())
        message = f"{self.name} holds {available} images for {parts} = {total}"
        others = tuple((name,) for name in ("name", *wanted))
        return [Problem(message, f"take {total - available} fewer", (largest,), others)]


class Adapters(Section):
    """The low-rank adapters of each layer: one shared by all tasks, and with `airpfed-lora` one per task.

    `alpha` makes the scale `alpha / rank`, device by device. `device_ranks` gives devices ranks of their own
    in turn: the first device the first, and from the start again after the last.
    """

    shared_rank: Natural = 6
    personal_rank: Natural = 2
    scale: Positive = 1.0
    alpha: Positive | None = None
    init_scale: Positive = 1.0
    device_ranks: tuple[Count, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "Adapters":
        if self.shared_rank + self.personal_rank == 0:
            message = "shared_rank and personal_rank are both 0: nothing would be learned"
            hint = "give at least one of them a rank"
            raise ProblemsError(Problem(message, hint, ("shared_rank",), (("personal_rank",),)))
        for index, rank in enumerate(self.device_ranks):
            if rank > self.shared_rank:
                message = f"{rank} is above shared_rank {self.shared_rank}, to which all adapters are padded"
                hint = "lower it, or raise shared_rank"
                raise ProblemsError(Problem(message, hint, ("device_ranks", index), (("shared_rank",),)))
        return self


Model = Annotated[Mlp | Cnn | Transformer, Field(discriminator="kind"), default_kind("mlp")]
Data = Annotated[ImageData | TextData, Field(discriminator="kind"), default_kind("images")]


class Learning(Section):
    """What is learned, who takes part in a round, and how devices train and receivers step.

    `torch_device` is where torch computes; whether it is here shows when a run is built.
    """

    model: Model = Field(default_factory=Mlp)
    data: Data = Field(default_factory=ImageData)
    adapters: Adapters = Field(default_factory=Adapters)
    learning_rate: Positive = 0.15
    batch: Batch = "full"
    training: Training = Field(default_factory=Training)
    server: Server = Field(default_factory=Server)
    participation: Participation = Field(default_factory=Participation)
    torch_device: TorchDevice = "cpu"

    @model_validator(mode="after")
    def _check(self) -> "Learning":
        if isinstance(self.model, Transformer) != isinstance(self.data, TextData):
            message = f"a model of kind {self.model.kind} cannot read data of kind {self.data.kind}"
            hint = "put kind: transformer and kind: text together, or kind: mlp (or cnn) and kind: images"
            raise ProblemsError(Problem(message, hint, ("model",), (("data",),)))
        if isinstance(self.model, Cnn) and isinstance(self.data, ImageData):
            misfit = self.model.misfit(IMAGE_SIDES[self.data.name])
            raise_any([] if misfit is None else [misfit.below(("model",))])
        return self
