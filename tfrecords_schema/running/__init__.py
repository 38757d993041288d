"""Parts of a program that runs for long: locks, temporary folders and interruption."""
