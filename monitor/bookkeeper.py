"""lanes.Bookkeeper over the store: what the configuration says about saving, saving, and pausing."""

from monitor.config import Config
from monitor.lanes import start_offsets
from monitor.posts import Batch, Saved, ScoredBatch
from monitor.store import positions
from monitor.store import settings as store_settings
from monitor.store.database import Database
from monitor.store.saving import Saver, SaveRules


class StoreBookkeeper:
    """See lanes.Bookkeeper."""

    def __init__(self, db: Database, saver: Saver) -> None:
        self._db = db
        self._saver = saver

    def save(self, batch: ScoredBatch) -> Saved:
        return self._saver.save(batch)

    def refuse(self, batch: Batch, reason: str, *, pause: bool) -> None:
        if pause:
            positions.pause(self._db, batch.source, reason, start_offsets(batch))  # starts the judging afresh, too
        else:
            positions.reset_outcomes(self._db, batch.source)


def bookkeeper_of(config: Config, db: Database) -> StoreBookkeeper:
    """The bookkeeper of a daemon with this configuration."""
    return StoreBookkeeper(db, Saver(db, rules_of(config, db, config.max_invalid_share)))


def rules_of(config: Config, db: Database, max_invalid_share: float) -> SaveRules:
    """How rows are saved; `max_invalid_share` 1.0 never refuses a batch. Reads the store's hash key."""
    store = config.store
    return SaveRules(
        max_brands=config.max_brands,
        max_invalid_share=max_invalid_share,
        keep_text=store.keep_text,
        user_id=store.user_id,
        hash_key=store_settings.hash_key(db),
    )
