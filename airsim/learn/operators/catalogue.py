"""All aggregation methods by name: definition, cost, on-air class, source."""

from airsim.learn.operators.linear_methods import LINEAR_METHODS
from airsim.learn.operators.other_methods import OTHER_METHODS

METHODS = {method.name: method for method in (*LINEAR_METHODS, *OTHER_METHODS)}
