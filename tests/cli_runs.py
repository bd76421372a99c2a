"""The command line inside the test's process: a configuration for a database, and commands run against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from batches import DAY, letter, micro, post, rules, scored
from click.testing import CliRunner, Result

from monitor.cli import program
from monitor.posts import Post, Reason, Score
from monitor.store import daily
from monitor.store.database import Database
from monitor.store.saving import Saver

#: what a developer's shell may hold and a test must not see
_UNSET = ("SLACK_BOT_TOKEN", "SLACK_WEBHOOK_URL", "HTTP_TOKEN", "DATABASE_PASSWORD", "CREDENTIALS_DIRECTORY")


@dataclass
class Cli:
    """Runs commands with one configuration file; relative paths are seen from its folder."""

    config: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, input: str | bytes | None = None) -> Result:  # noqa: A002 - as CliRunner calls it
        """Run a command; --config is added at its end."""
        env: Mapping[str, str | None] = {**dict.fromkeys(_UNSET), **self.env}
        return CliRunner().invoke(program, [*arguments, "--config", str(self.config)], input=input, env=env)

    def ok(self, *arguments: str, input: str | bytes | None = None) -> str:  # noqa: A002 - as above
        """Run a command that must succeed; returns its standard output."""
        result = self.run(*arguments, input=input)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def fails(self, exit_code: int, *arguments: str) -> str:
        """Run a command that must end with `exit_code`; returns its standard error."""
        result = self.run(*arguments)
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result.stderr


def make_cli(folder: Path, url: str, env: Mapping[str, str] | None = None, **sections: Any) -> Cli:
    """A Cli over the database `url`; `sections` replace or add top-level keys of its configuration."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"store": {"url": url}, **sections}), encoding="utf-8")
    return Cli(path, dict(env or {}))


def seed(db: Database) -> None:
    """Twelve days of two brands to DAY, 40 posts a day; acme falls from 0.6 to 0.2 for three. Two dead letters."""
    records: list[Post] = []
    scores: list[Score | None] = []
    for brand in ("acme", "globex"):
        for n_back in range(12):
            value = 200_000 if brand == "acme" and n_back < 3 else 600_000
            for _ in range(40):
                offset = len(records)
                records.append(post(offset, brand=brand, day=DAY - timedelta(days=n_back), user_id=f"user{offset % 7}"))
                scores.append(micro(value + offset % 5))
    saver = Saver(db, rules())
    saver.save(scored(records, scores))
    saver.save(scored([letter(5000), letter(5001, Reason.EMPTY_TEXT)]))
    daily.refresh(db, records[0].created_at)
