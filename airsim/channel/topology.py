"""Positions of the base station, the edge servers and the devices."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Position = tuple[float, float, float]


@dataclass(frozen=True)
class Topology:
    """Where everything stands, in metres; devices are ordered task by task."""

    base_station_m: Float[np.ndarray, "3"]
    edge_servers_m: Float[np.ndarray, "E 3"]
    devices_m: Float[np.ndarray, "K 3"]
    task_of_device: tuple[int, ...]

    def members(self, task: int) -> list[int]:
        """Indices of the devices of one task."""
        return [device for device, own in enumerate(self.task_of_device) if own == task]


@dataclass(frozen=True)
class DiscPlacement:
    """Edge servers evenly on a ring around the base station, devices in an annulus around their server."""

    base_station_m: Position
    ring_radius_m: float
    edge_server_height_m: float
    device_height_m: float
    min_distance_m: float
    max_distance_m: float


def place_network(
    placement: DiscPlacement, num_edge_servers: int, devices_per_edge_server: int, rng: np.random.Generator
) -> Topology:
    """Draw a network: each device is uniform in area between the two distances from its edge server."""
    bearing = 2 * np.pi * np.arange(num_edge_servers) / num_edge_servers
    ring = placement.ring_radius_m * np.stack([np.cos(bearing), np.sin(bearing)], axis=1)  # E 2
    centre = np.asarray(placement.base_station_m, dtype=float)
    servers = np.column_stack([centre[:2] + ring, np.full(num_edge_servers, placement.edge_server_height_m)])
    tasks = np.repeat(np.arange(num_edge_servers), devices_per_edge_server)
    inner, outer = placement.min_distance_m**2, placement.max_distance_m**2
    radius = np.sqrt(rng.uniform(inner, outer, size=tasks.size))
    direction = rng.uniform(0, 2 * np.pi, size=tasks.size)
    offset = radius[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)  # K 2
    height = np.full(tasks.size, placement.device_height_m)
    devices = np.column_stack([servers[tasks, :2] + offset, height])
    return Topology(centre, servers, devices, tuple(int(task) for task in tasks))


def distances_m(
    receiver_m: Float[np.ndarray, "3"], devices_m: Float[np.ndarray, "K 3"]
) -> Float[np.ndarray, "K"]:
    """Distance of each device from a receiver, in three dimensions."""
    return np.linalg.norm(devices_m - receiver_m, axis=1)


def angles_rad(
    receiver_m: Float[np.ndarray, "3"], devices_m: Float[np.ndarray, "K 3"]
) -> Float[np.ndarray, "K"]:
    """Azimuth under which a receiver sees each device; its array lies along the y axis (broadside is x)."""
    offset = devices_m - receiver_m
    return np.arctan2(offset[:, 1], offset[:, 0])
