"""The checks of a dataset, a module per family, and the catalogue that lists them."""
