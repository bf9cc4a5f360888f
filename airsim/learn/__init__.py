"""Federated learning of low-rank adapters: data, models, gradients and aggregation operators."""
