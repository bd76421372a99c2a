"""Delivery: what waits in the outbox goes to Slack, one message at a time; any number of replicas may do so at once.

1. A message is claimed with a lease, 2. sent unless the lease is nearly over, 3. marked with what became of it. A crash
between 1 and 3 leaves the claim, which runs out and becomes `unknown`: whether it was posted is then looked up in the
history of the channel that the claim named, and where that cannot be told, `alerts.slack.delivery` decides.
"""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from monitor import clocks, crashpoints
from monitor.config import Config
from monitor.protocols import Notifier, SendResult
from monitor.slack import TIMEOUT_S, DryRunNotifier, WebhookNotifier
from monitor.store import alerts
from monitor.store.alerts import AlertRow, Change
from monitor.store.database import Database
from monitor.store.deciding import channel_of

log = logging.getLogger(__name__)

LEASE_S = 60.0  #: for one message: the HTTP timeout fits into it several times
PAUSE_S = 1.0  #: between two messages; Slack takes about one a second per channel
LOOK_AFTER_S = 15.0  #: from a doubtful attempt to the look-up: a slow post has arrived by then
RESEND_AFTER_S = 45.0  #: from a look-up that could not tell to the next attempt (at_least_once)
REFUSED_RETRY_S = 900.0  #: what Slack refuses needs a person: the token, the channel, an invitation
#: how far Slack's clock may be behind the one that a message was written by, which may have been an hour off
_CLOCK_SKEW_S = 2 * 3600.0


def deliver(
    db: Database,
    notifier: Notifier,
    config: Config,
    now: datetime,
    pause: Callable[[float], object] = time.sleep,
    ticks: Callable[[], float] = clocks.awake_or_not_s,
) -> int:
    """Send or look up the oldest due message. 1 where more may follow at once; 0 where nothing is due or Slack is away.

    Waits up to a second (`pause`) after the message before. `ticks` counts seconds, also those that the
    machine sleeps, to see how much of the lease is left. Raises StoreUnavailable.
    """
    if isinstance(notifier, DryRunNotifier):
        return _show(db, notifier, config, now)
    began = ticks()
    claimed = alerts.claim(db, now, LEASE_S, LOOK_AFTER_S, partial(_channel_for, notifier, config))
    if claimed is None:
        return 0
    crashpoints.passing("claim")
    if claimed.state == "sending":
        _wait_for_turn(db, now, pause)
        result: SendResult | None = _send(notifier, claimed, config, ticks() - began)
    else:
        oldest_ts = claimed.created_at.timestamp() - _CLOCK_SKEW_S
        result = notifier.find(_channel(claimed, config), claimed.alert_key, oldest_ts)
    crashpoints.passing("post")
    ended_at = _later(now, ticks() - began)
    change = change_after(result, claimed, ended_at, config.alerts.slack.delivery)
    alerts.mark(db, claimed, change, ended_at)
    crashpoints.passing("mark")
    _say(claimed, change)
    return int(result is not None and result.outcome in {"sent", "refused"})


def change_after(result: SendResult | None, claimed: AlertRow, now: datetime, delivery: str) -> Change:
    """What becomes of a claimed message: `result` is of Notifier.send, or of Notifier.find for a claim to look."""
    if claimed.state == "sending" and result is not None:
        return after_sending(result, claimed, now)
    return after_looking(result, claimed, now, delivery)


def after_sending(result: SendResult, claimed: AlertRow, now: datetime) -> Change:
    """What becomes of a message after an attempt to send it."""
    if result.outcome == "sent":
        return Change("sent", channel=result.channel, ts=result.ts)
    if result.outcome == "refused":
        return Change("pending", _later(now, REFUSED_RETRY_S), result.error)
    if result.outcome == "retry":
        wait_s = backoff_s(claimed.attempts) if result.retry_after_s is None else result.retry_after_s
        return Change("pending", _later(now, wait_s), result.error)
    return Change("unknown", _later(now, LOOK_AFTER_S), result.error)


def after_looking(found: SendResult | None, claimed: AlertRow, now: datetime, delivery: str) -> Change:
    """What becomes of a message that may have been posted, after a look for it; `found` as Notifier.find returns it."""
    if found is None:
        if delivery == "at_most_once":
            return Change("unknown", None, claimed.last_error)
        return Change("pending", _later(now, RESEND_AFTER_S), claimed.last_error)
    if found.outcome == "sent":
        return Change("sent", channel=found.channel, ts=found.ts)
    if found.outcome == "retry":
        return Change("pending", now, claimed.last_error)
    return Change("unknown", _later(now, found.retry_after_s or 60.0), found.error)


def backoff_s(attempts: int) -> float:
    """Seconds after the attempt of that number (from 1): 5, 10, 20 ... at most 300."""
    return float(min(300, 5 * 2 ** min(attempts - 1, 10)))


def _send(notifier: Notifier, claimed: AlertRow, config: Config, held_s: float) -> SendResult:
    if held_s > LEASE_S - 2 * TIMEOUT_S:  # stopped since the claim: another replica may be at it soon
        return SendResult("retry", error="the lease was nearly over before sending", retry_after_s=1.0)
    sent = notifier.send(_message(claimed), _channel(claimed, config), claimed.alert_key)
    return sent if sent.channel else msgspec.structs.replace(sent, channel=channel_of(config, claimed.brand))


def _show(db: Database, notifier: DryRunNotifier, config: Config, now: datetime) -> int:
    claimed = alerts.claim_dry_run(db, now)
    if claimed is None:
        return 0
    notifier.send(_message(claimed), channel_of(config, claimed.brand), claimed.alert_key)
    figures = {
        name: getattr(claimed, name) for name in ("alert_key", "brand", "kind", "rule_ma3", "threshold", "total")
    }
    log.info("alert, not sent without a Slack token", extra={**figures, "day": claimed.day.isoformat()})
    return 1


def _message(claimed: AlertRow) -> Mapping[str, Any]:
    message: Mapping[str, Any] = msgspec.json.decode(claimed.message or "{}")
    return message


def _channel_for(notifier: Notifier, config: Config, brand: str) -> str:
    """None that anybody can look into for a webhook, whose messages carry no key: a token that is set later cannot tell
    whether they are there."""
    return "" if isinstance(notifier, WebhookNotifier) else channel_of(config, brand)


def _channel(claimed: AlertRow, config: Config) -> str:
    """As configured when its sending began: a misspelt channel can be corrected while messages wait, and a message that
    may have been posted is looked for where it went."""
    known = claimed.slack_channel
    return channel_of(config, claimed.brand) if known is None else known  # none: claimed by an earlier version


def _wait_for_turn(db: Database, now: datetime, pause: Callable[[float], object]) -> None:
    last = alerts.last_sent_at(db)
    wait_s = PAUSE_S - (now - last).total_seconds() if last else 0.0
    if wait_s > 0:
        pause(min(wait_s, PAUSE_S))  # more only where another replica's clock is ahead


def _later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)


def _say(claimed: AlertRow, change: Change) -> None:
    if change.state == "sent":
        log.info("alert sent", extra={"alert_key": claimed.alert_key})
    else:
        log.warning(
            "alert not sent yet", extra={"alert_key": claimed.alert_key, "why": change.error, "state": change.state}
        )
