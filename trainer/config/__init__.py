"""Options, flags and presets of the trainer, and the folder of a run."""
