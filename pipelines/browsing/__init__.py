"""A page to browse the sequences of a dataset: ``pipelines show --page``."""
