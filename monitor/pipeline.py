"""poll -> score -> save -> commit: one owner thread a source, one scorer thread, one saver thread, bounded queues
between them."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from monitor import crashpoints
from monitor.errors import PositionsMovedBack, StoreUnavailable, TooManyRefused, Unavailable
from monitor.health import Health
from monitor.lanes import Bookkeeper, Lane, Outcome, Work
from monitor.metrics import Metrics
from monitor.posts import Batch, Saved, ScoredBatch
from monitor.protocols import Polled, Scorer

log = logging.getLogger(__name__)

IDLE_S = 0.5  #: longest wait of one turn: how late a stop or a resume can be noticed
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)  #: pauses between attempts while a part is away
QUEUE_BATCHES = 2  #: batches that may wait before each stage: bounds memory, keeps the stages busy


class Pipeline:
    """Runs the stages, in threads (`start`, `stop`) or one after the other (`run_once`)."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        scorer: Scorer,
        bookkeeper: Bookkeeper,
        health: Health,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lanes = list(lanes)
        self._scorer = scorer
        self._bookkeeper = bookkeeper
        self._health = health
        self._metrics = metrics
        self._monotonic = monotonic
        self._to_score: queue.Queue[Work] = queue.Queue(QUEUE_BATCHES)
        self._to_save: queue.Queue[Work] = queue.Queue(QUEUE_BATCHES)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.failure: BaseException | None = None

    # ---- one after the other -------------------------------------------------------------------------------------

    def open_lane(self, lane: Lane) -> None:
        """Open the lane's source; Unavailable when it does not answer."""
        lane.source.open()
        lane.is_open = True
        self._health.up(lane.name)

    def run_once(self, lane: Lane) -> bool:
        """One turn of one lane: poll until a batch closes or nothing more is ready, score, save, commit. True if it
        found work.

        Unavailable leaves everything as it is: the same call goes on where this one ended.
        """
        self._settle(lane)
        if not lane.closed:
            lane.closed.extend(self._poll_batches(lane))
        found = bool(lane.closed)
        while lane.closed:
            work = Work(lane, lane.closed[0], lane.poll_epoch)
            self._score(work)
            lane.outcomes.append(self._save(work))
            lane.closed.popleft()
            lane.n_in_flight += 1
            self._settle(lane)  # a refusal clears what was polled after it
        return found

    def _poll_batches(self, lane: Lane) -> list[Batch]:
        batches: list[Batch] = []
        while not batches:
            polled = self._poll(lane)
            batches = lane.batcher.add(polled, self._monotonic())
            if not polled.records and not polled.ends_file:
                return batches + lane.batcher.flush()
        return batches

    # ---- in threads ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every thread; an unexpected error in one ends up in `failure` and stops all."""
        for lane in self.lanes:
            lane.hands_on = True
        loops: list[tuple[str, Callable[[], None]]] = [("scorer", self._score_loop), ("saver", self._save_loop)]
        loops += [(f"owner of {lane.source.name}", lambda lane=lane: self._own_loop(lane)) for lane in self.lanes]  # type: ignore[misc]
        for name, loop in loops:
            thread = threading.Thread(target=self._guard, args=(name, loop), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Finish the batches in hand, commit them and close the sources; False if a thread did not end in time."""
        self._stopping.set()
        deadline = self._monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _guard(self, name: str, loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:
            log.exception("%s failed", name)
            self.failure = error
            self._stopping.set()
        finally:
            self._health.ended(name)

    def _own_loop(self, lane: Lane) -> None:
        n_failed = 0
        try:
            while not self._stopping.is_set():
                self._health.turn(f"owner of {lane.source.name}")
                try:
                    self._own_turn(lane)
                    n_failed = 0
                except Unavailable as error:
                    self._health.down(lane.name, str(error))
                    self._stopping.wait(RETRY_S[min(n_failed, len(RETRY_S) - 1)])
                    n_failed += 1
            lane.hands_on = False
            self._settle_in_hand(lane)
        finally:
            lane.hands_on = False
            lane.source.close()

    def _own_turn(self, lane: Lane) -> None:
        """Commit what was saved, hand on what is closed, poll when there is room."""
        if not lane.is_open:
            self.open_lane(lane)
        self._settle(lane)
        if self._hand_on(lane):
            polled = self._poll(lane)
            self._tell_state(lane)
            self._metrics.records_polled.labels(lane.source.name).inc(len(polled.records))
            lane.closed.extend(lane.batcher.add(polled, self._monotonic()))
            self._hand_on(lane)
        else:
            lane.source.keep_alive()
            self._stopping.wait(0.01)

    def _settle_in_hand(self, lane: Lane) -> None:
        """After a stop: wait for the batches in hand and tell the source. What cannot be told now is polled again at
        the next start."""
        while lane.n_in_flight and self.failure is None:
            self._health.turn(f"owner of {lane.source.name}")
            lane.source.keep_alive()
            try:
                self._settle(lane)
            except Unavailable as error:
                self._health.down(lane.name, str(error))
                lane.outcomes.popleft()
                lane.n_in_flight -= 1
            time.sleep(0.01)

    def _tell_state(self, lane: Lane) -> None:
        reason = lane.source.paused()
        if reason is None:
            self._health.up(lane.name)
        else:
            self._health.down(lane.name, f"paused: {reason}; see `sources resume {lane.source.name}`")

    def _hand_on(self, lane: Lane) -> bool:
        """Put closed batches into the queue; False while it is full."""
        while lane.closed:
            work = Work(lane, lane.closed[0], lane.poll_epoch)
            lane.n_in_flight += 1
            try:
                self._to_score.put_nowait(work)
            except queue.Full:
                lane.n_in_flight -= 1
                return False
            lane.closed.popleft()
        return True

    def _score_loop(self) -> None:
        while self._has_work(self._to_score):
            self._health.turn("scorer")
            work = _get(self._to_score)
            if work is None:
                continue
            if self._is_stale(work):
                work.lane.outcomes.append(Outcome(work.batch))
                continue
            self._score(work)
            self._put_to_save(work)

    def _put_to_save(self, work: Work) -> None:
        while self.failure is None:
            self._health.turn("scorer")
            try:
                self._to_save.put(work, timeout=IDLE_S)
            except queue.Full:
                continue
            return

    def _save_loop(self) -> None:
        while self._has_work(self._to_save):
            self._health.turn("saver")
            work = _get(self._to_save)
            if work is not None:
                work.lane.outcomes.append(self._save_patiently(work))

    def _has_work(self, waiting: "queue.Queue[Work]") -> bool:
        """False once a stop was asked for and no batch of any lane is under way or can still come; at once after a
        failure."""
        if not self._stopping.is_set():
            return True
        return self.failure is None and (
            not waiting.empty() or any(lane.n_in_flight or lane.hands_on for lane in self.lanes)
        )

    def _save_patiently(self, work: Work) -> Outcome:
        """Save, waiting for the store as long as it takes; a batch is given up only when the daemon stops (it is
        polled again), or when its source reads anew meanwhile: from a place that its position would jump over, where
        brokers lost the end of a log."""
        n_failed = 0
        while True:
            self._health.turn("saver")
            if self._is_stale(work):
                return Outcome(work.batch)
            try:
                with self._health.asking("store"):
                    outcome = self._save(work)
            except StoreUnavailable as error:
                self._health.down("store", str(error), loop="saver")
                if self._stopping.wait(RETRY_S[min(n_failed, len(RETRY_S) - 1)]):
                    # later batches must not overtake this one: their positions would skip its records
                    work.lane.epoch += 1
                    return Outcome(work.batch)
                n_failed += 1
            else:
                self._health.up("store", loop="saver")
                return outcome

    # ---- the stages ----------------------------------------------------------------------------------------------

    def _poll(self, lane: Lane) -> Polled:
        polled = lane.source.poll(lane.batcher.room(), lane.batcher.wait_s(self._monotonic(), IDLE_S))
        if polled.records:
            crashpoints.passing("fetch")
        return polled

    def _is_stale(self, work: Work) -> bool:
        return work.epoch != work.lane.epoch or not work.lane.source.is_current(work.batch)

    def _score(self, work: Work) -> None:
        posts = work.batch.posts
        with self._metrics.stage_seconds.labels("score").time():
            scores = self._scorer.score(posts)
        self._metrics.batch_posts.observe(len(posts))
        work.scored = ScoredBatch(work.batch, scores, self._scorer.model, datetime.now(UTC))
        crashpoints.passing("score")

    def _save(self, work: Work) -> Outcome:
        assert work.scored is not None
        try:
            with self._metrics.stage_seconds.labels("save").time():
                saved = self._bookkeeper.save(work.scored)
        except TooManyRefused as refused:
            work.lane.epoch += 1  # what was polled after it must not be stored either
            return Outcome(work.batch, refused=refused)
        except PositionsMovedBack:
            work.lane.epoch += 1
            return Outcome(work.batch, moved_back=True)
        return Outcome(work.batch, saved=saved)

    def _settle(self, lane: Lane) -> None:
        """Tell the source what became of its batches, in order."""
        while lane.outcomes:
            outcome = lane.outcomes[0]
            if outcome.refused is not None:
                self._refuse(lane, outcome.batch, outcome.refused)
            elif outcome.saved is not None:
                with self._metrics.stage_seconds.labels("commit").time():
                    lane.source.commit(outcome.batch, outcome.saved)
                self._count(lane, outcome.batch, outcome.saved)
            elif outcome.moved_back:
                log.warning(
                    "the database was restored or moved back, reading again", extra={"source": lane.source.name}
                )
                self._read_again(lane)
            lane.outcomes.popleft()
            lane.n_in_flight -= 1

    def _refuse(self, lane: Lane, batch: Batch, refused: TooManyRefused) -> None:
        reason = refused.sentence
        log.error("too many bad records", extra={"source": lane.source.name, "why": reason})
        self._bookkeeper.refuse(batch, reason, pause=lane.source.kind == "kafka")
        lane.source.refuse(batch, refused)
        self._read_again(lane)
        lane.was_refused = True

    def _read_again(self, lane: Lane) -> None:
        """Forget what was polled and not saved, and go on from the stored positions."""
        lane.batcher.drop()
        lane.closed.clear()
        lane.source.rewind()
        lane.poll_epoch = lane.epoch

    def _count(self, lane: Lane, batch: Batch, saved: Saved) -> None:
        name = lane.source.name
        lane.n_records += len(batch.records)
        lane.n_inserted += saved.n_inserted
        lane.n_seen_before += saved.n_seen_before
        lane.refused.update(saved.refused)
        self._metrics.posts_saved.labels(name, "inserted").inc(saved.n_inserted)
        self._metrics.posts_saved.labels(name, "seen_before").inc(saved.n_seen_before)
        for reason, n_refused in saved.refused.items():
            self._metrics.dead_letters.labels(name, reason.value).inc(n_refused)
        self._metrics.batch_age_seconds.observe(max(0.0, self._monotonic() - batch.polled_at))
        posts = batch.posts
        if posts:
            self._metrics.newest_post.labels(name).set(max(post.created_at for post in posts).timestamp())


def _get(waiting: "queue.Queue[Work]") -> Work | None:
    try:
        return waiting.get(timeout=IDLE_S)
    except queue.Empty:
        return None
