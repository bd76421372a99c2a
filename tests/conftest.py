"""Where pytest finds the fixtures: one module per kind of service."""

import os

import pytest

# tests run beside other work: threads that wait for each other on busy cores take ten times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: the files that take longest first, those of the long tests among them: what comes last should be short
SLOW_FIRST = (
    "nemesis", "crash_points", "source_kafka", "outages", "models_tasks_train", "models_train", "restores",
    "end_to_end_kafka", "daemon", "disk_outages", "readme", "stops", "security_kafka", "store_migrate",
    "large_file", "any_order", "kafka_members", "sources_contract", "models_words", "idle", "models_tasks",
    "privacy", "models_linear_train", "cli_store", "store_database", "pipeline", "end_to_end_csv", "models_tools",
    "models_tokenizer", "work_guard", "bad_input", "models_protocol", "models_labelled", "delivery_faults",
    "cli_model", "models_fixed_point", "secrets", "store_driving", "store_daily", "deploy", "models_linear",
    "report", "source_drop_folder", "systemd", "episodes", "page_hostile", "http_hostile", "alerts_store",
    "models_shipped", "fuzz_inputs", "clock_jumps", "outbox", "corrections", "models_corpora", "models_teacher",
    "folder_hostile", "models_kinds", "store_forgetting",
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
