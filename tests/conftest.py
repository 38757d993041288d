"""Property tests run without deadlines, since machines are shared; in CI, on the same examples each time."""

import os

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:
    pass  # tests/dataset, which examines a user's dataset, needs none
else:
    settings.register_profile(
        "exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.register_profile(
        "repeatable", parent=settings.get_profile("exploring"), derandomize=True
    )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "exploring"))
