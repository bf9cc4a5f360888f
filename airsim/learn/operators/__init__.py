"""What the servers do with aggregated payloads, one file per method."""
