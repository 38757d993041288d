"""Works on datasets that are finished."""
