"""What an aggregation method cannot work with, before anything is built."""

from airsim.scenario.aggregation import (
    CHANGE_METHODS,
    DENSE_METHODS,
    FULL_MODEL_METHODS,
    GRADIENT_METHOD,
    HEAD_METHODS,
    MIXED_RANK_METHODS,
    NONLINEAR_METHODS,
    Aggregation,
    Server,
    Training,
)
from airsim.scenario.channel import Uplink
from airsim.scenario.learning import Adapters, Learning
from airsim.scenario.problems import Path, Problem
from airsim.scenario.texts import Transformer

METHOD: Path = ("aggregation", "method")
ADAPTERS: Path = ("learning", "adapters")
TRAINING: Path = ("learning", "training")
# Why trained heads cannot follow a payload.
NEEDS_EVERY_UPLOAD = "beside uploads that are merged one by one they are not built"
HEADLESS = {
    "hetlora": "its weights are norms of adapters, which say nothing of heads",
    "lora-a2": "its budget counts components of adapters, of which heads have none",
}


def problems(aggregation: Aggregation, learning: Learning, uplink: Uplink) -> list[Problem]:
    """Everything about the method that contradicts the rest of the scenario."""
    method = aggregation.method
    found = _air_problems(method, uplink)
    if isinstance(learning.model, Transformer):
        found += _transformer_problems(method, learning.model)
    if method == GRADIENT_METHOD:
        return found + _gradient_problems(learning)
    found += _server_problems(method, learning.server) + _sends_problems(aggregation)
    if method in FULL_MODEL_METHODS:
        return found + _full_model_problems(method, learning)
    return found + _adapter_problems(method, learning.adapters)


def participant_problems(aggregation: Aggregation, learning: Learning, num_devices: int) -> list[Problem]:
    """Rounds of more devices than there are, or of fewer than the method can work with."""
    cohort: Path = ("network", "devices", "per_edge_server")
    asked, path = learning.participation.devices, ("learning", "participation", "devices")
    if asked is not None and asked > num_devices:
        message = f"{asked} devices cannot take part in a round of {num_devices}"
        hint = f"give at most {num_devices}, or leave participation out for all"
        return [Problem(message, hint, path, (cohort,))]
    present = learning.participation.of(num_devices)
    if aggregation.method == "fedinc" and aggregation.clusters > present:
        message = f"{aggregation.clusters} clusters cannot be made of {present} devices in a round"
        others: tuple[Path, ...] = (METHOD, path, ("learning", "participation", "share"), cohort)
        hint = f"set aggregation.clusters to at most {present}, or let more devices take part"
        return [Problem(message, hint, ("aggregation", "clusters"), others)]
    return []


def _air_problems(method: str, uplink: Uplink) -> list[Problem]:
    """On-air classes: what a superposition cannot bring must be chosen, and is charged for."""
    place, others = ("uplink", "nonlinear"), (METHOD, ("uplink", "mode"))
    if method not in NONLINEAR_METHODS:
        return []
    if uplink.nonlinear == "dense" and method not in DENSE_METHODS:
        message = f"{method} needs every single upload: no sum of full matrices replaces them"
        return [Problem(message, "choose uplink.nonlinear: orthogonal", place, others)]
    if uplink.nonlinear == "refused" and uplink.mode == "aircomp":
        ways = "orthogonal or dense" if method in DENSE_METHODS else "orthogonal"
        message = f"{method} needs every single upload, which one superposition over the air cannot bring"
        hint = f"choose uplink.nonlinear: {ways} (charged for), uplink.mode: error-free, or a linear method"
        return [Problem(message, hint, METHOD, (place, ("uplink", "mode")))]
    return []


def _gradient_problems(learning: Learning) -> list[Problem]:
    """One gradient per round is sent: there is nothing to train locally."""
    found = []
    plain = Training(steps=1) if learning.training.steps == 1 else Training()
    trained = _changed(learning.training, plain)
    if trained:
        message = f"{GRADIENT_METHOD} sends one gradient per round: devices do not train between uploads"
        hint = "leave learning.training out, or choose another aggregation.method"
        found.append(Problem(message, hint, trained[0], (*trained[1:], METHOD)))
    for field in ("alpha", "device_ranks"):
        if getattr(learning.adapters, field):
            message = f"{GRADIENT_METHOD} has one rank and one scale for all devices"
            found.append(Problem(message, f"leave {field} out", (*ADAPTERS, field), (METHOD,)))
    return found


def _transformer_problems(method: str, model: Transformer) -> list[Problem]:
    """Who trains the network's own parameters, in which type, and which payloads carry heads."""
    weights: Path = ("learning", "model", "trained_weights")
    if method in FULL_MODEL_METHODS:
        if model.trained_weights == "adapted-layers" or model.dtype == "float32":
            return []
        message = f"{method} trains all parameters, in which {model.dtype} would lose what a step adds"
        hint = "set dtype: float32, or trained_weights: adapted-layers, which alone are then in float32"
        return [Problem(message, hint, ("learning", "model", "dtype"), (METHOD, weights))]
    if model.trained_weights != "all":
        message = f"{method} trains adapters, and no weights of the network"
        hint = f"leave trained_weights out, or choose {', '.join(FULL_MODEL_METHODS)}"
        return [Problem(message, hint, weights, (METHOD,))]
    if model.heads == "trained" and method not in (GRADIENT_METHOD, *HEAD_METHODS):
        message = f"{method} does not train heads: {HEADLESS.get(method, NEEDS_EVERY_UPLOAD)}"
        hint = f"set heads: frozen, or choose {', '.join((GRADIENT_METHOD, *HEAD_METHODS))}"
        return [Problem(message, hint, ("learning", "model", "heads"), (METHOD,))]
    return []


def _server_problems(method: str, server: Server) -> list[Problem]:
    """What other methods average are trained adapters or models, which take no step of a server."""
    if server.optimiser == "sgd":
        return []
    message = f"{method} averages what devices have trained: its server has no gradient to step along"
    hint = f"leave learning.server out, or choose {GRADIENT_METHOD}"
    return [Problem(message, hint, ("learning", "server", "optimiser"), (METHOD,))]


def _sends_problems(aggregation: Aggregation) -> list[Problem]:
    """Methods that are defined by changes have nothing else to send."""
    if aggregation.sends == "change" or aggregation.method not in CHANGE_METHODS:
        return []
    message = f"{aggregation.method} is defined by changes, which are all that it sends"
    hint = "set sends: change, or choose another method"
    return [Problem(message, hint, ("aggregation", "sends"), (METHOD,))]


def _full_model_problems(method: str, learning: Learning) -> list[Problem]:
    """There are no adapters, and control variates need plain steps."""
    training, found = learning.training, []
    for field in ("alpha", "device_ranks"):
        if getattr(learning.adapters, field):
            message = f"{method} trains all weights and has no adapters"
            hint = f"leave {field} out, or choose a method on adapters"
            found.append(Problem(message, hint, (*ADAPTERS, field), (METHOD,)))
    plain = training.model_copy(update={"optimiser": "sgd", "weight_decay": 0.0, "keep_state": False})
    if method == "scaffold" and training != plain:
        message = "the control variates of scaffold are means of gradients only under plain steps"
        hint = "choose optimiser: sgd without weight decay, which has no state to keep"
        first, *others = _changed(training, plain)
        found.append(Problem(message, hint, first, (*others, METHOD)))
    return found


def _changed(training: Training, plain: Training) -> list[Path]:
    """The fields of local training that are not as in `plain`."""
    names = type(training).model_fields
    return [(*TRAINING, name) for name in names if getattr(training, name) != getattr(plain, name)]


def _adapter_problems(method: str, adapters: Adapters) -> list[Problem]:
    """One adapter for all tasks, of one rank unless the method is defined for several."""
    found = []
    if adapters.personal_rank:
        message = (
            f"{method} has one adapter and no personal one, but personal_rank is {adapters.personal_rank}"
        )
        hint = "set personal_rank: 0; shared_rank is the adapter's rank"
        found.append(Problem(message, hint, (*ADAPTERS, "personal_rank"), (METHOD,)))
    ranks = set(adapters.device_ranks) | ({adapters.shared_rank} if adapters.device_ranks else set())
    if len(ranks) > 1 and method not in MIXED_RANK_METHODS:
        message = f"{method} is not defined for devices of different ranks"
        hint = f"leave device_ranks out, or choose {', '.join(MIXED_RANK_METHODS)}"
        found.append(Problem(message, hint, (*ADAPTERS, "device_ranks"), (METHOD,)))
    return found
