"""Image sources, and how they become tasks and devices."""
