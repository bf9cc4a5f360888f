"""Whether aggregation methods do what their definitions say: a dense oracle, and the laws they must keep."""
