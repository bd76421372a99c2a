"""Where pytest finds the fixtures: one module per kind of service."""

import os

# tests run beside other work: threads that wait for each other on busy cores take ten times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = [
    "fixtures_daemon",
    "fixtures_disk",
    "fixtures_kafka",
    "fixtures_postgres",
    "fixtures_slack",
]
