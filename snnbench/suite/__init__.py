"""A suite: a TOML file that describes a grid of trials, and what it becomes."""
