"""Real services that tests lean on: missing ones skip on a laptop and fail in CI, where nobody reads of skips."""

import os

import pytest


def require(present: bool, what: str) -> None:
    """Go on where `what` is present; else skip, or fail where the environment says CI=true."""
    if present:
        return
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{what} is missing, and CI must not skip its tests", pytrace=False)
    pytest.skip(f"{what} is missing")
