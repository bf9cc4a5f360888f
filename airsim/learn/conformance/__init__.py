"""Whether aggregation methods do what their definitions say: a dense oracle, instances, and the laws they must keep."""
