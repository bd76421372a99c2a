"""A thread that says when something changed in a folder.

Only a hint: network file systems say nothing, so the folder is also rescanned.
"""

import logging
import threading
from pathlib import Path

log = logging.getLogger(__name__)


class FolderHints:
    """Wakes a waiting source; errors of the watcher are harmless and only slow it down."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch; safe to call again."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, name="folder watcher", daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """True as soon as something changed, False after `timeout_s`."""
        changed = self._changed.wait(timeout_s)
        self._changed.clear()
        return changed

    def close(self) -> None:
        """End the thread; safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _watch(self) -> None:
        from watchfiles import watch

        try:
            for _ in watch(
                self._path,
                stop_event=self._stop,
                recursive=False,
                debounce=100,
                step=50,
                rust_timeout=1000,
                watch_filter=None,
            ):
                self._changed.set()
        except Exception as error:  # noqa: BLE001 - no inotify left, an odd file system: the rescan does the work
            log.debug("the folder is not watched, only rescanned", extra={"error": str(error)})
