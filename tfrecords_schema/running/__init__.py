"""Parts of a program that runs for long: locks, temporary folders, interruption, terminal, environment."""
