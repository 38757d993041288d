"""An exported model over footage, by the same listing, sampling and frame code that made its training set."""
