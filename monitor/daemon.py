"""Wiring and lifecycle: build everything from the configuration, run, stop in reverse order."""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TextIO

from monitor import cautions, logs, metrics, settings
from monitor.allocator import give_back_freed, limit_arenas
from monitor.batching import BatchLimits
from monitor.clocks import JumpWatch
from monitor.config import Config, DropFolderSection, KafkaSection
from monitor.dashboard import page
from monitor.errors import MonitorError, Unavailable
from monitor.health import Health
from monitor.http import HttpServer
from monitor.jobs import Jobs
from monitor.lanes import Lane
from monitor.main_thread import MainThread, leave_in_time
from monitor.pipeline import Pipeline
from monitor.posts import Score
from monitor.protocols import Notifier, Scorer, Source
from monitor.settings import Secrets
from monitor.signals import Signals
from monitor.systemd import ServiceManager
from monitor.timetable import Timetable

log = logging.getLogger(__name__)

STOP_S = 18.0  #: for the batches and messages in hand


class Daemon:
    """Everything one process runs. `start` builds it step by step; `stop` takes down whatever was built."""

    def __init__(
        self,
        config: Config,
        role: str,
        secrets: Secrets,
        signals: Signals,
        announce: Callable[[str], None] | None = None,
        clock: JumpWatch | None = None,
    ) -> None:
        self.config = config
        self.role = role
        self._secrets = secrets
        self._announce = announce
        self.metrics = metrics.Metrics()
        self.metrics.build.labels(version("sentiment-monitor")).set(1)
        self.health = Health(self.metrics)
        self.health.expect("store")
        if role != "schedule":
            self.health.expect("bundle", *(f"source {section.name}" for section in config.sources))
        self.manager = ServiceManager()
        self.main = MainThread(signals, self.health, self.manager, clock or JumpWatch(), self._clock_was_set)
        self.lanes: list[Lane] = []
        self.http: HttpServer | None = None
        self.scorer: Scorer | None = None
        self.pipeline: Pipeline | None = None
        self.jobs: Jobs | None = None
        self.db: Any = None
        self.is_stuck = False  # after `stop`: a thread still waits for something that does not answer
        self._timetable: Timetable | None = None
        self._cleanup = ExitStack()

    # ---- build ---------------------------------------------------------------------------------------------------

    def open_http(self) -> None:
        """Answer /livez and /readyz from now on."""
        self.http = HttpServer(
            self.config.http, self._secrets.secret("HTTP_TOKEN"), self.health, self.metrics, self._page
        )
        self.http.start()
        self._cleanup.callback(self.http.stop)

    def load_bundle(self) -> None:
        """Load and verify the bundle (ingesting roles only); ConfigError when it cannot be used."""
        if self.role == "schedule":
            return
        from monitor.scorer import BundleScorer

        scoring = self.config.scoring
        skip = scoring.other_languages == "skip"
        scorer = BundleScorer.load(
            scoring.bundle, scoring.device, self.config.base_dir, skip_other_languages=skip, metrics=self.metrics
        )
        self.scorer = scorer
        give_back_freed()  # weights are unpacked on the way to the tables of the engine
        self.metrics.model.labels(scorer.model, scorer.bundle.device).set(1)
        self.health.up("bundle", f"{scorer.model} on {scorer.bundle.device}")
        log.info(
            "bundle loaded",
            extra={"model": scorer.model, "device": scorer.bundle.device, "why": scorer.bundle.device_reason},
        )
        if self.http is not None:
            self.http.score = lambda texts: (scorer.model, _scores(scorer, texts))

    def claim_store(self, *, only_if_there: bool = False) -> None:
        """Take the store, a SQLite file for this daemon alone. AlreadyRunning where another has it, StoreUnavailable:
        call again."""
        from monitor.store.database import Database, daemon_lock

        if self.db is None:
            db = Database(self.config.store_url(), self._secrets.secret("DATABASE_PASSWORD"))
            self._cleanup.callback(db.close)
            if only_if_there and not (db.path and db.path.exists()):
                return
            self._cleanup.enter_context(daemon_lock(db))
            self.db = db

    def open_store(self) -> None:
        """Connect, migrate or check, claim the time zone. StoreUnavailable while the database is away: call again."""
        from monitor.store import migrate
        from monitor.store import settings as store_settings

        self.claim_store()
        if self.config.store.migrate_on_start:
            migrate.upgrade(self.db)
        migrate.check(self.db)
        store_settings.claim_time_zone(self.db, self.config.time_zone)
        self._register_model()
        self.health.up("store", self.db.describe())

    def build(self) -> None:
        """Sources, pipeline, jobs; the store must be open."""
        from monitor.bookkeeper import bookkeeper_of
        from monitor.slack import DryRunNotifier, notifier_for

        notifier: Notifier
        notifier, dry_run = notifier_for(self.config, self._secrets)
        if dry_run and self._announce is not None:
            notifier = DryRunNotifier(self._announce)
        if self.scorer is not None:
            limits = self._limits()
            self.lanes = [Lane(self._source(section), limits) for section in self.config.sources]
            self.pipeline = Pipeline(
                self.lanes, self.scorer, bookkeeper_of(self.config, self.db), self.health, self.metrics
            )
        self.jobs = Jobs(
            self.config, self.db, notifier, self.lanes, self.health, self.metrics, role=self.role, dry_run=dry_run
        )

    def start(self) -> None:
        """Start the threads."""
        assert self.jobs is not None
        if self.pipeline is not None:
            self.pipeline.start()
        self._timetable = Timetable(self.jobs, self.config, self.role)
        self._timetable.start()

    def stop(self) -> None:
        """No new work, finish what is in hand, then take down in reverse order; never raises for what is away."""
        deadline = time.monotonic() + STOP_S
        if self.jobs is not None:
            self.jobs.stopping.set()
        if self._timetable is not None:
            self._timetable.pause()
        if self.pipeline is not None and not self.pipeline.stop(STOP_S):
            self.is_stuck = True
            log.warning("a batch in hand could not be finished in time; it will be read again")
        if self._timetable is not None:
            ending = threading.Thread(target=self._timetable.shutdown, daemon=True)
            ending.start()
            ending.join(max(1.0, deadline - time.monotonic()))  # a message that is on its way to Slack gets its answer
            self.is_stuck |= ending.is_alive()
        if not self.is_stuck:
            self._leave_store()
        self._cleanup.close()

    def _leave_store(self) -> None:
        """The days of the last posts are refreshed, and our sign of life goes."""
        from monitor.store import instances

        if self.jobs is None:
            return
        try:
            if self.role != "ingest":
                self.jobs.refresh_days()
            instances.remove(self.db, self.jobs.instance)
        except Unavailable:
            log.debug("the store is away; days are refreshed by the next start, our sign of life expires by itself")

    def _limits(self) -> BatchLimits:
        scoring = self.config.scoring
        return BatchLimits(scoring.max_batch_posts, scoring.max_batch_chars, scoring.max_wait_ms / 1000)

    def _source(self, section: DropFolderSection | KafkaSection) -> Source:
        from monitor.sources.build import build_source

        return build_source(section, self.config, self.db, self._secrets.secret)

    def _register_model(self) -> None:
        if self.scorer is None:
            return
        from monitor.scorer import BundleScorer
        from monitor.store import models

        if isinstance(self.scorer, BundleScorer):
            models.register(self.db, self.scorer.model, self.scorer.bundle, datetime.now(UTC))

    def _page(self) -> str:
        return page.render(self.db, self.config, self.health, self.jobs.state() if self.jobs else {})

    def has_failed(self) -> bool:
        """The pipeline ended by an error that nobody can wait out."""
        return self.pipeline is not None and self.pipeline.failure is not None

    def reload(self, read: Callable[[], Config] | None) -> None:
        """Take the alert rules of the configuration as it is now; what cannot be read leaves the old ones."""
        if read is None or self.jobs is None:
            return
        try:
            self.jobs.reload(read().alerts)
        except MonitorError as error:
            log.error("the configuration was not reloaded; the old alert rules stay: %s", error)  # noqa: TRY400 - a user's mistake, no traceback
        else:
            log.info("alert rules reloaded")

    def _clock_was_set(self, jumped_s: float) -> None:
        if self._timetable is not None:
            self._timetable.clock_was_set(jumped_s)


def run(
    config: Config,
    role: str = "all",
    *,
    once: bool = False,
    wait_s: float = 60.0,
    secrets: Secrets | None = None,
    reload: Callable[[], Config] | None = None,
    signals: Signals | None = None,
    log_stream: TextIO | None = None,
    announce: Callable[[str], None] | None = None,
) -> int:
    """Run the daemon until a signal, or once through everything there is; returns the exit code (README, "Commands").

    `reload` reads the configuration again (SIGHUP). `announce` gets the alerts of a dry run instead of terminal or log.
    Raises ConfigError (78) before anything starts when configuration, secrets, bundle or schema do not fit.
    """
    secrets = secrets or Secrets()
    settings.check_start(config, secrets)
    logs.configure(config.logging.level, config.logging.format, settings.known_secrets(config, secrets), log_stream)
    for sentence in cautions.cautions(config, secrets):
        log.warning("%s", sentence)
    signals = signals or Signals()
    signals.install()
    limit_arenas()
    daemon = Daemon(config, role, secrets, signals, announce)
    ended = threading.Event()
    threading.Thread(target=leave_in_time, args=(signals, ended), name="stop deadline", daemon=True).start()
    try:
        if once:
            from monitor.once import run_once

            return run_once(daemon, wait_s)
        return _run_forever(daemon, reload)
    finally:
        ended.set()


def _run_forever(daemon: Daemon, reload: Callable[[], Config] | None) -> int:
    code, main = 0, daemon.main
    try:
        _open_http(daemon)
        assert daemon.http is not None
        daemon.load_bundle()
        daemon.manager.ready(f"status page at {daemon.http.url}")
        log.info("started", extra={"role": daemon.role, "status_page": daemon.http.url})
        main.wait_for("store", lambda: main.turning(daemon.open_store))
        if not main.is_stopping:
            main.wait_for("store", daemon.build)
        if not main.is_stopping:
            daemon.start()
            code = main.run_until_stopped(daemon.has_failed, lambda: daemon.reload(reload))
    finally:
        log.info("stopping")
        daemon.manager.stopping()
        daemon.stop()
    log.info("stopped")
    if daemon.is_stuck:
        logging.shutdown()
        os._exit(code)  # the interpreter would wait for its threads
    return code


def _open_http(daemon: Daemon) -> None:
    """Where the port is taken by another daemon of the same configuration, that is what is told."""
    try:
        daemon.open_http()
    except Unavailable:
        daemon.claim_store(only_if_there=True)
        raise


def _scores(scorer: Any, texts: list[str]) -> list[Score]:
    scores: list[Score] = scorer.score_texts(texts)
    return scores
