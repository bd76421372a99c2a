"""`check`: is everything that the configuration names in order? One line each."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from monitor.commands.options import config_option, database_of, example, load_config, quiet_libraries

if TYPE_CHECKING:
    from monitor.config import AnySource, Config
    from monitor.settings import Secrets
    from monitor.slack import SlackNotifier
    from monitor.store.database import Database


class Finding(NamedTuple):
    """One line: a part, its exit code (0 in order), and a sentence."""

    part: str
    exit_code: int
    sentence: str


@click.command(short_help="Say whether all that is configured is in order", epilog=example("check", "check --show"))
@config_option
@click.option("--show", is_flag=True, help="Print the whole configuration in force, secrets masked, and end.")
@click.pass_context
def check(ctx: click.Context, config_path: Path, *, show: bool) -> None:
    """Say whether configuration, bundle, device, store, sources and Slack are in order.

    Exit codes: 0 all in order, 78 configuration, bundle or schema need a change, 69 a service does not answer or a
    source is paused.
    """
    from monitor import settings

    config = load_config(config_path)
    if show:
        click.echo(settings.show(config), nl=False)
        return
    worst = 0
    with quiet_libraries():
        findings = list(_findings(config, config_path, settings.Secrets()))
    for finding in findings:
        mark = click.style("ok  ", fg="green") if finding.exit_code == 0 else click.style("FAIL", fg="red")
        click.echo(f"{mark}  {finding.part:<22}  {finding.sentence.splitlines()[0]}")
        for line in finding.sentence.splitlines()[1:]:
            click.echo(f"{'':<30}{line.strip()}")
        worst = max(worst, finding.exit_code)
    ctx.exit(worst)


def _findings(config: "Config", path: Path, secrets: "Secrets") -> Iterator[Finding]:
    yield _checked("configuration", lambda: _configuration(config, path, secrets))
    yield _checked("bundle", lambda: _bundle(config))
    yield _device(config)
    db = database_of(config)
    try:
        yield _checked("store", lambda: _store(config, db))
        for source in config.sources:
            yield _checked(f"source {source.name}", partial(_source, source, config, secrets, db))
        yield _checked("Slack", lambda: _slack(config, secrets, db))
    finally:
        db.close()


def _checked(part: str, look: Callable[[], str]) -> Finding:
    """What `look` says, or the error it ended with: one part's fault never hides the others'."""
    from monitor.errors import MonitorError

    try:
        return Finding(part, 0, look())
    except MonitorError as error:
        return Finding(part, error.exit_code, str(error))


def _configuration(config: "Config", path: Path, secrets: "Secrets") -> str:
    from monitor import cautions, settings

    settings.check_start(config, secrets)
    names = ", ".join(source.name for source in config.sources)
    sentence = f"{path}: sources {names}; days in {config.time_zone}"
    return "\n".join([sentence, *cautions.cautions(config, secrets)])


def _bundle(config: "Config") -> str:
    from models.bundle import BundleError, find_bundle, read_manifest
    from monitor.errors import ConfigError

    try:
        manifest = read_manifest(find_bundle(config.scoring.bundle, config.base_dir))
    except BundleError as error:
        raise ConfigError(str(error)) from error
    languages = ", ".join(manifest.languages)
    return f"{manifest.name}@{manifest.sha256[:8]}: {len(manifest.classes)} classes, {languages}, files in order"


def _device(config: "Config") -> Finding:
    from monitor.device import describe
    from monitor.errors import ConfigError

    usable, sentence = describe(config.scoring.device)
    return Finding("device", 0 if usable else ConfigError.exit_code, sentence)


def _store(config: "Config", db: "Database") -> str:
    from monitor.errors import ConfigError
    from monitor.store import migrate, positions
    from monitor.store import settings as store_settings

    if db.path is not None and not db.path.exists():
        _check_can_be_made(db.path)
        if not config.store.migrate_on_start:
            raise ConfigError(f"there is no database at {db.path}; run `sentiment-monitor db upgrade`")
        return f"{db.describe()} is made at the first start"
    version = migrate.current(db)
    if version is None and config.store.migrate_on_start:
        return f"{db.describe()} answers; its tables are made at the first start"
    if version != migrate.head() and config.store.migrate_on_start:
        migrate.refuse_newer(db, version)
        return f"{db.describe()} has schema {version}; the next start brings it to {migrate.head()}"
    migrate.check(db)
    zone = store_settings.time_zone_of(db)
    if zone not in {None, config.time_zone}:
        raise ConfigError(
            f"its days are counted in {zone}, not {config.time_zone}; `sentiment-monitor db rebuild-days` changes that"
        )
    positions.check_writable(db)
    return f"{db.describe()}, schema {version}, up to date"


def _check_can_be_made(path: Path) -> None:
    """Raise Unavailable where no file can be made at `path`, whose folder need not be there yet; nothing is left."""
    from tempfile import TemporaryFile

    from monitor.errors import StoreUnavailable

    folder = next(folder for folder in path.parents if folder.exists())
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be made: {folder}: {error.strerror}") from error


def _source(source: "AnySource", config: "Config", secrets: "Secrets", db: "Database") -> str:
    from monitor import probe
    from monitor.errors import Unavailable

    sentence = probe.look_at(source, config, secrets)
    reason = _paused(db).get(source.name)
    if reason:
        raise Unavailable(f"paused: {reason}; `sources resume {source.name}` lets it read again")
    return sentence


def _paused(db: "Database") -> dict[str, str]:
    from monitor.errors import MonitorError
    from monitor.store import positions

    try:
        return positions.paused(db) if _has_tables(db) else {}
    except MonitorError:
        return {}  # the store's own line says why


def _has_tables(db: "Database") -> bool:
    from monitor.store import migrate

    return (db.path is None or db.path.exists()) and migrate.current(db) == migrate.head()


def _slack(config: "Config", secrets: "Secrets", db: "Database") -> str:
    from monitor.slack import SlackNotifier, notifier_for

    notifier, dry_run = notifier_for(config, secrets)
    sentence = "an incoming webhook is set; `alerts test` tries it"
    if dry_run:
        sentence = "dry run, since neither SLACK_BOT_TOKEN nor SLACK_WEBHOOK_URL is set: alerts are printed or logged"
    elif isinstance(notifier, SlackNotifier):
        sentence = _slack_answer(notifier, config)
    _check_waiting(db)
    return sentence


def _slack_answer(notifier: "SlackNotifier", config: "Config") -> str:
    from monitor.errors import ConfigError, Unavailable

    result = notifier.check()
    if result.outcome == "refused":
        raise ConfigError(f"Slack refuses the token: {result.error}")
    if result.outcome != "sent":
        raise Unavailable(f"Slack does not answer: {result.error or result.outcome}")
    return f"the token works; alerts go to {config.alerts.slack.channel}"


def _check_waiting(db: "Database") -> None:
    """Raise Unavailable where alerts wait that Slack did not take."""
    from monitor.errors import StoreUnavailable, Unavailable
    from monitor.store import alerts as alert_store

    try:
        n_failing, last_error = alert_store.failing(db) if _has_tables(db) else (0, None)
    except StoreUnavailable:
        return  # the store's own line says why
    if n_failing:
        raise Unavailable(f"{n_failing} alerts wait, for Slack did not take them: {last_error}; see `alerts list`")
