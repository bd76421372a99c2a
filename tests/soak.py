"""`make soak`: faults for as long as it takes to believe in the promises.

`kills`: SIGKILL at named steps, 200 times over the four pairs of source and store. `nemesis`: three replicas of one
group under everything that nemesis.py can do to them. `limits`: 100,000 files, and one of five gigabytes. `idle`: what
a daemon does with nothing to do, and with its database away. Seeds are printed; the exit code is 1 if a promise broke.
"""

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psycopg
from crash_chains import ALERT_STEPS, FOLDER_STEPS, KAFKA_STEPS, STORE_STEPS, Chain, Feed, FolderFeed, TopicFeed
from fixtures_kafka import Broker, real_broker
from fixtures_postgres import PostgresServer, running_postgres
from fixtures_slack import running_slack
from idling import idle_daemon, waiting_daemon, work_over
from limits import read_large, take_first_of
from nemesis import Nemesis
from nemesis_feed import Numbered, check_log
from replicas import Ground, check_alerts, drain, ground, n_taken, stop_all
from tiny_models import make_bundle

FIRST_FILE_S = 10.0  #: from the daemon's start, with 100,000 files waiting
IDLE_SHARE = 0.02  #: of a core, with nothing to do or nothing to do it with
PATIENCE_S = 1800.0  #: for what waits after the last fault; how long it took is told
KILLS_A_CHAIN = 25  #: then everything is counted, and the next chain begins with an empty store


class Pair(NamedTuple):
    """A kind of source and a kind of store."""

    name: str
    make_feed: Callable[[random.Random, Path], Feed]
    steps: Sequence[str]
    postgres: PostgresServer | None  # None: SQLite


def tell(line: str) -> None:
    """To the terminal or a file, at once."""
    print(f"{line}\n", end="", flush=True)  # noqa: T201  a report; whole lines, from any thread


def soak_kills(folder: Path, n_kills: int, seed: int) -> None:
    """`n_kills` over the four pairs, in chains of KILLS_A_CHAIN."""
    bundle = str(make_bundle(folder / "bundle"))
    (folder / "kafka").mkdir(parents=True)
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        broker = real_broker(folder / "kafka")
        stack.callback(broker.kill)
        pairs = [pair for store in (None, postgres) for pair in pairs_with(store, broker)]
        for number, first in enumerate(range(0, n_kills, KILLS_A_CHAIN)):
            chain_folder = folder / f"chain-{number}"
            chain_folder.mkdir()
            choice = random.Random(f"{seed} {number}")
            result = run_chain(pairs[number % 4], chain_folder, bundle, choice, min(KILLS_A_CHAIN, n_kills - first))
            tell(f"chain {number}, {result}: PASS")


def pairs_with(postgres: PostgresServer | None, broker: Broker) -> list[Pair]:
    """Both sources into one store."""
    store = "PostgreSQL" if postgres else "SQLite"
    every = (*STORE_STEPS, *ALERT_STEPS)
    return [
        Pair(f"CSV into {store}", FolderFeed, (*every, *FOLDER_STEPS), postgres),
        Pair(f"Kafka into {store}", lambda choice, _: TopicFeed(choice, broker), (*every, *KAFKA_STEPS), postgres),
    ]


def run_chain(pair: Pair, folder: Path, bundle: str, choice: random.Random, n_kills: int) -> str:
    """Every step once in any order, then any steps; returns what was done. AssertionError if a promise broke."""
    began = time.monotonic()
    with running_slack() as slack:
        url = pair.postgres.create() if pair.postgres else None
        chain = Chain(folder, url, pair.make_feed(choice, folder), slack, bundle, choice)
        steps = [*choice.sample(pair.steps, len(pair.steps)), *choice.choices(pair.steps, k=n_kills)][:n_kills]
        for step in steps:
            chain.crash(step)
        chain.finish()
        chain.check()
        took_s = time.monotonic() - began
        done = f"{n_kills} kills, {chain.n_ordered} of them at their step, {len(chain.feed.fed)} records"
        return f"{pair.name}: {done}, {len(slack.posted)} messages, {took_s:.0f} s"


def soak_nemesis(folder: Path, n_posts: int, minutes: float, seed: int) -> None:
    """`n_posts` in `minutes` under all faults, then the count."""
    bundle = str(make_bundle(folder / "bundle"))
    with (
        running_postgres() as postgres,
        running_slack() as slack,
        ground(folder / "ground", postgres, slack, bundle) as site,
        Numbered(site.broker.servers, site.topic, n_posts, n_posts / minutes / 60) as feed,
    ):
        rage_while_producing(site, feed, Nemesis(site, seed, tell), min(120.0, minutes * 30))
        began = time.monotonic()
        drain(site, feed, PATIENCE_S)
        tell(f"all records through {time.monotonic() - began:.0f} s after the last fault")
        tell(f"counted: {check_log(feed, site.url)}, {check_alerts(site)} messages")
        stop_all(site.replicas)
        tell("every daemon stopped in time: PASS")


def rage_while_producing(site: Ground, feed: Numbered, nemesis: Nemesis, spell_s: float) -> None:
    """Faults in spells of `spell_s` until all is produced; after each, how far it is and how large replicas grew."""
    began = time.monotonic()
    while not feed.is_over and not site.failures:
        nemesis.rage(spell_s)
        largest = max(replica.rss_mib for replica in site.replicas)
        so_far = f"{feed.n_produced} produced, {n_taken_or_none(site)} taken in"
        tell(f"{(time.monotonic() - began) / 60:5.1f} min: {so_far}; the largest replica has {largest:.0f} MiB")
    assert not site.failures, site.failures
    feed.finish()
    tell(f"{sum(site.faults.values())} faults: {dict(site.faults.most_common())}")


def n_taken_or_none(site: Ground) -> int | None:
    """None where the database is still recovering from the last fault."""
    try:
        return n_taken(site)
    except psycopg.OperationalError:
        return None


def soak_limits(folder: Path, n_bytes: int, n_files: int) -> None:
    """A folder of `n_files`, and a file of `n_bytes` for four minutes with a SIGKILL half-way."""
    bundle = str(make_bundle(folder / "bundle"))
    take_first_of(folder / "warm", bundle, 1)  # loads what daemons are forked from
    alone_s = take_first_of(folder / "one", bundle, 1)
    took_s = take_first_of(folder / "many", bundle, n_files)
    tell(f"the first of {n_files:,} files stored {took_s:.1f} s after the daemon's start, a single one {alone_s:.1f} s")
    assert took_s <= FIRST_FILE_S, "too late"
    shutil.rmtree(folder / "many")
    if shutil.disk_usage(folder).free < 3 * n_bytes:
        tell(f"the large file SKIPPED: less than {3 * n_bytes / 1e9:.0f} GB free in {folder}")
        return
    read_large(folder / "large", bundle, n_bytes, 120.0, tell)
    tell("limits: PASS")


def soak_idle(folder: Path, seconds: float) -> None:
    """Two daemons for so long each: one has nothing to do, the other no database."""
    bundle = str(make_bundle(folder / "bundle"))
    (folder / "idle").mkdir()
    (folder / "away").mkdir()
    with idle_daemon(folder / "idle", bundle) as daemon:
        idle = work_over(daemon, seconds)
    tell(f"idle: {idle}")
    with running_postgres() as postgres, waiting_daemon(folder / "away", bundle, postgres) as daemon:
        away = work_over(daemon, seconds)
        postgres.start()
    tell(f"database away: {away}")
    assert max(idle.share, away.share) < IDLE_SHARE, "too busy"
    tell("idle: PASS")


def main() -> int:
    """Parse, run, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["all", "kills", "nemesis", "limits", "idle"], nargs="?", default="all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--bytes", type=int, default=5_000_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--idle-s", type=float, default=120.0)
    parser.add_argument("--folder", type=Path, help="keep logs and databases here")
    given = parser.parse_args()
    tell(f"{time.strftime('%Y-%m-%d %H:%M:%S')} soak {given.what}, seed {given.seed}")
    with TemporaryDirectory(prefix="soak-") as temporary:
        folder = given.folder or Path(temporary)
        try:
            if given.what in {"all", "nemesis"}:
                soak_nemesis(folder / "nemesis", given.posts, given.minutes, given.seed)
            if given.what in {"all", "kills"}:
                soak_kills(folder / "kills", given.kills, given.seed)
            if given.what in {"all", "limits"}:
                soak_limits(folder / "limits", given.bytes, given.files)
            if given.what in {"all", "idle"}:
                soak_idle(folder / "idle", given.idle_s)
        except AssertionError as error:
            tell(f"FAIL: {error}")
            return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in conftest.py; daemons are forked later
    sys.exit(main())
