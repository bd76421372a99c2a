"""Where pytest finds the fixtures: one module per kind of service."""

import os

import pytest

# tests run beside other work: threads that wait for each other on busy cores take ten times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: the files that take longest, those that mostly wait beside those that compute: what comes last should be short
SLOW_FIRST = (
    "readme", "daemon", "source_kafka", "outages", "store_migrate", "end_to_end_kafka", "restores",
    "security_kafka", "any_order", "models_protocol", "cli_store", "sources_contract", "models_words",
    "cli_model", "models_train", "models_linear", "secrets", "end_to_end_csv", "store_database",
    "kafka_members", "alerts_store", "deploy", "store_daily", "clock_jumps", "privacy", "report",
    "models_linear_train", "store_driving", "systemd", "bad_input", "folder_hostile", "fuzz_inputs",
    "models_kinds", "models_tokenizer", "store_forgetting",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, the others after them by name."""
    places = {f"test_{name}.py": place for place, name in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


pytest_plugins = [
    "fixtures_daemon",
    "fixtures_disk",
    "fixtures_kafka",
    "fixtures_postgres",
    "fixtures_slack",
]
