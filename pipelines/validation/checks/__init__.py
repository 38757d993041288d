"""The checks of a dataset: one module per kind of subject, and the catalogue that collects them."""
