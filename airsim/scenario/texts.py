"""Learning from texts: an encoder of Hugging Face, and tasks that are labelled texts."""

from typing import Annotated, Literal

from pydantic import Field

from airsim.scenario.fields import NOT_EMPTY, AllOrCount, Count, Flag, Pattern, Section, Text, default_kind
from airsim.scenario.partition import IidPartition, Partition


class Transformer(Section):
    """A frozen network of Hugging Face: a name on its Hub, a folder, or `minilm`, which an extra carries.

    Adapters sit on the linear layers in whose names `adapted_layers` is found, a regular expression. Every
    task has a classification head; trained ones travel with the personal payload of `airpfed-lora`, and as a
    part of the model with methods on full parameters; some other methods train them for all tasks in common.
    Methods on full parameters train `trained_weights`: `all` parameters of the network, or the matrices of
    the `adapted-layers`.
    `keep_lower_layers` computes what lies below the lowest trained layer once per text: exact, for memory.
    """

    kind: Literal["transformer"] = "transformer"
    network: Text = "minilm"
    adapted_layers: Pattern = r"layer\.[45]\..*(query|value)"
    tokens: Count = 32
    heads: Literal["frozen", "trained"] = "trained"
    trained_weights: Literal["all", "adapted-layers"] = "all"
    dtype: Literal["float32", "bfloat16"] = "float32"
    keep_lower_layers: Flag = True


class TextData(Section):
    """One task per data set, in the folder `text` of `AIRSIM_DATA_DIR`, and how many texts of each."""

    kind: Literal["text"] = "text"
    tasks: Annotated[tuple[Text, ...], NOT_EMPTY] = ("sst2", "trec", "subj", "mr", "agnews")
    training_texts: AllOrCount = 600
    test_texts: AllOrCount = 250
    partition: Annotated[Partition, default_kind("iid")] = Field(default_factory=IidPartition)
