"""What a scenario means before it runs: resolved values, link budget, airtime."""

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from airsim.builders.bases import base_plan
from airsim.builders.costs import adapter_sizes, gradient_control_reals, method_costs
from airsim.builders.radio import build_channels, build_topology, noise_power_w
from airsim.channel import ChannelModel, Topology, distances_m
from airsim.radio import num_symbols, transfer_s, uplink_s
from airsim.randomness import RandomStreams
from airsim.report.tables import key_value_table
from airsim.scenario import Scenario, locates_errors
from airsim.scenario.aggregation import FULL_MODEL_METHODS, GRADIENT_METHOD
from airsim.scenario.learning import ImageData
from airsim.scenario.texts import Transformer
from optim import quantity


def show_check(scenario: Scenario) -> None:
    """Print the resolved scenario, its link budget and what a round costs."""
    console = Console(highlight=False)
    console.print(scenario.resolved_yaml().rstrip(), markup=False, soft_wrap=True)
    console.print(link_budget(scenario))
    console.print(key_value_table("A round, and the run", airtime_rows(scenario)))
    if scenario.sweep is not None:
        trials = scenario.trials()
        console.print(key_value_table("Sweep", sweep_rows(scenario, len(trials))))
    console.print("valid; nothing was run")


@locates_errors
def link_budget(scenario: Scenario) -> Table:
    """Distance, path gain and mean receive SNR of every receiver's links, weakest to strongest device."""
    streams = RandomStreams(scenario.seed)
    topology = build_topology(scenario, streams)
    noise_w = noise_power_w(scenario)
    average_w = scenario.network.devices.average_power
    table = Table(
        title=f"Link budget (seed {scenario.seed}): noise {quantity.to_dbm(noise_w):.1f} dBm per antenna, "
        f"devices {quantity.to_dbm(average_w):.1f} dBm on average and "
        f"{quantity.to_dbm(scenario.network.devices.peak_power_w):.1f} dBm at most, "
        f"P/sigma^2 {quantity.to_db(average_w / noise_w):.1f} dB",
        title_justify="left",
    )
    for column in (
        "receiver",
        "antennas",
        "devices",
        "distance m",
        "path gain dB",
        "SNR per antenna dB",
        "SNR combined dB",
    ):
        table.add_column(column, justify="right")
    for index, model in enumerate(build_channels(scenario, topology, streams)):
        table.add_row(*_budget_row(index, model, topology, average_w / noise_w))
    return table


def _budget_row(index: int, model: ChannelModel, topology: Topology, transmit_snr: float) -> list[str]:
    position = topology.edge_servers_m[index - 1] if index else topology.base_station_m
    members = topology.members(index - 1) if index else list(range(len(topology.task_of_device)))
    receive_snr = model.path_gain * transmit_snr
    return [
        f"edge server {index - 1}" if index else "base station",
        str(model.num_antennas),
        str(len(members)),
        _range(distances_m(position, topology.devices_m[members])),
        _range(_db(model.path_gain)),
        _range(_db(receive_snr)),
        _range(_db(receive_snr * model.num_antennas)),  # one device alone, maximum-ratio combining
    ]


def airtime_rows(scenario: Scenario) -> list[tuple[str, str]]:
    """Payloads, channel uses and seconds; local computing depends on the images that each device draws."""
    if scenario.aggregation.method != GRADIENT_METHOD:
        return method_rows(scenario)
    shared, personal = adapter_sizes(scenario)
    tasks, rounds = scenario.num_edge_servers, scenario.stop.rounds
    uses_shared, uses_personal = num_symbols(shared), num_symbols(personal)
    bandwidth_hz, links = scenario.channel.bandwidth, scenario.links
    present = scenario.devices_per_round
    most = "" if present == scenario.num_devices else ", at most"
    tasks = min(tasks, present)
    uses = uses_shared + tasks * uses_personal
    told = present * gradient_control_reals(scenario, (shared, personal))
    statistics_s = transfer_s(told, links.control_rate)
    downlink_s = transfer_s(shared, links.downlink_rate) + transfer_s(personal, links.downlink_rate)
    return [
        ("layers with adapters", adapted_layers(scenario)),
        ("devices per round", f"{present} of {scenario.num_devices}"),
        ("payload entries, s and p", f"{shared} and {personal}"),
        ("s-phase", f"{uses_shared} channel uses, {uplink_s(uses_shared, bandwidth_hz):.3g} s"),
        (
            f"p-phase{most}",
            f"{tasks} x {uses_personal} channel uses, {tasks * uplink_s(uses_personal, bandwidth_hz):.3g} s",
        ),
        ("statistics", f"{told} floats, {statistics_s:.3g} s"),
        ("downlink", f"{downlink_s:.3g} s"),
        (f"channel uses per round{most}", str(uses)),
        ("rounds", str(rounds)),
        (f"channel uses in all{most}", str(rounds * uses)),
        (
            f"seconds in all, without computing{most}",
            f"{rounds * (uplink_s(uses, bandwidth_hz) + statistics_s + downlink_s):.4g}",
        ),
    ]


def method_rows(scenario: Scenario) -> list[tuple[str, str]]:
    """The same where devices train between uploads: what the method sends and broadcasts around round 0."""
    costs, rounds, links = method_costs(scenario), scenario.stop.rounds, scenario.links
    uplink_time_s = uplink_s(costs.channel_uses, scenario.channel.bandwidth)
    present = scenario.devices_per_round
    statistics_s = transfer_s(costs.control_reals, links.control_rate)
    first_s, downlink_s = (
        transfer_s(entries, links.downlink_rate) for entries in (costs.first_broadcast, costs.broadcast)
    )
    return [
        ("devices per round", f"{present} of {scenario.num_devices}"),
        ("what is trained", _trained(scenario)),
        ("uplink of round 0", f"{costs.channel_uses} channel uses, {uplink_time_s:.3g} s"),
        ("statistics", f"{costs.control_reals} floats, {statistics_s:.3g} s"),
        ("first downlink", f"{costs.first_broadcast} floats, {first_s:.3g} s"),
        ("downlink after round 0", f"{costs.broadcast} floats, {downlink_s:.3g} s"),
        ("rounds", str(rounds)),
        ("channel uses of all, if as round 0", str(rounds * costs.channel_uses)),
        (
            "seconds of all without computing, if as round 0",
            f"{rounds * (uplink_time_s + statistics_s) + first_s + (rounds - 1) * downlink_s:.4g}",
        ),
    ]


def adapted_layers(scenario: Scenario) -> str:
    """Their names and widths, as far as they are known before a network is loaded."""
    model, data = scenario.learning.model, scenario.learning.data
    if isinstance(model, Transformer):
        return f"those of {model.network} named {model.adapted_layers}"
    assert isinstance(data, ImageData)
    shapes = base_plan(model, data).adapted_shapes
    return ", ".join(f"{name} {shape.inputs} to {shape.outputs}" for name, shape in shapes.items())


def sweep_rows(scenario: Scenario, num_trials: int) -> list[tuple[str, str]]:
    """The axes, the seeds and the number of trials."""
    if scenario.sweep is None:
        return []
    rows = [(key, ", ".join(str(value) for value in values)) for key, values in scenario.sweep.grid.items()]
    paired = "the same at every point" if scenario.sweep.paired else "different at every point"
    rows.append(("seeds", f"{scenario.sweep.repeat}, {paired}"))
    rows.append(("trials", str(num_trials)))
    return rows


def _db(ratio: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K"]:
    return 10 * np.log10(ratio)


def _range(values: Float[np.ndarray, "K"]) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"


def _trained(scenario: Scenario) -> str:
    model, what = scenario.learning.model, f"adapters on {adapted_layers(scenario)}"
    if scenario.aggregation.method in FULL_MODEL_METHODS:
        chosen = isinstance(model, Transformer) and model.trained_weights == "adapted-layers"
        what = f"matrices of {adapted_layers(scenario)}" if chosen else "all weights"
    heads = isinstance(model, Transformer) and model.heads == "trained"
    return f"{what}, and the heads" if heads else what
