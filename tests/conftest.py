"""Where pytest finds the fixtures: one module per kind of service."""

pytest_plugins = [
    "fixtures_daemon",
    "fixtures_postgres",
    "fixtures_slack",
]
