"""What every test shares: hypothesis judges our code, never the speed of a busy machine.

By default it draws the same examples every time, so that a change is judged by what it changed; the full run
(`make test-all`) explores.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "steelyard",
    deadline=None,
    derandomize=os.environ.get("STEELYARD_FULL") != "1",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steelyard")
