"""From stored results to tables and figures; nothing is computed here that a run should have recorded."""
