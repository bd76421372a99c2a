"""Every metric, declared once. No brand, user or text is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BATCH_BUCKETS = (1, 8, 64, 256, 1024, 2048, 4096, 8192)
_SECONDS_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class Metrics:
    """One registry a daemon: two daemons in one process (tests) do not mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._n_bad_files: dict[str, int] = {}

        def counter(name: str, comment: str, *labels: str) -> Counter:
            return Counter(f"sentiment_monitor_{name}", comment, labels, registry=registry)

        def gauge(name: str, comment: str, *labels: str) -> Gauge:
            return Gauge(f"sentiment_monitor_{name}", comment, labels, registry=registry)

        def histogram(name: str, comment: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"sentiment_monitor_{name}", comment, labels, buckets=buckets, registry=registry)

        # the path of a post
        self.records_polled = counter("records_polled_total", "Records fetched from a source", "source")
        self.posts_saved = counter("posts_saved_total", "Posts saved: inserted, or seen_before", "source", "outcome")
        self.dead_letters = counter("dead_letters_total", "Records refused", "source", "reason")
        self.batch_posts = histogram("batch_posts", "Posts in a micro-batch", _BATCH_BUCKETS)
        self.stage_seconds = histogram("stage_seconds", "Time a batch spends in a stage", _SECONDS_BUCKETS, "stage")
        self.batch_age_seconds = histogram(
            "batch_age_seconds", "From first record polled to committed row", _SECONDS_BUCKETS
        )
        self.newest_post = gauge("newest_post_timestamp_seconds", "created_at of the newest post saved", "source")
        # sources
        self.source_lag = gauge("source_lag_records", "Records (drop folder: files) not yet polled", "source")
        self.source_paused = gauge("source_paused", "1 while too many bad records keep a source paused", "source")
        self.source_missed = gauge(
            "source_missed_records", "Records that were deleted before they could be read", "source"
        )
        self.refused_commits = gauge(
            "source_refused_commits", "Kafka commits refused after a rebalance (harmless)", "source"
        )
        # what the daemon waits for
        self.part_up = gauge("part_up", "1 while store, a source, the bundle or Slack answers", "part")
        self.retries = counter("retries_total", "Attempts that found a part away", "part")
        # jobs and alerts
        self.job_seconds = histogram("job_seconds", "Duration of a job", _SECONDS_BUCKETS, "job_name")
        self.job_failures = counter("job_failures_total", "Jobs that ended in an error", "job_name")
        self.job_success = gauge("job_last_success_timestamp_seconds", "When a job last succeeded", "job_name")
        self.job_missed = counter(
            "job_missed_total", "Runs that were skipped because the one before still ran", "job_name"
        )
        self.recount_differences = gauge("recount_differences", "Totals that differed from a recount of the posts")
        self.alerts = gauge("alerts", "Alerts by state", "state")
        self.alerts_failing = gauge("alerts_failing", "Pending alerts that Slack refused for good until somebody acts")
        # what runs
        self.model = gauge("model_info", "1 for the bundle in use", "model", "device")
        self.build = gauge("build_info", "1 for the version that runs", "version")
        self.memory_halvings = gauge("out_of_memory_halvings", "Batches halved because the GPU ran out of memory")

    def count_bad_files(self, source: str, n_so_far: int) -> None:
        """Bring dead_letters_total of whole files to `n_so_far`: a folder counts them itself."""
        counter = self.dead_letters.labels(source, "bad_file")
        counter.inc(n_so_far - self._n_bad_files.get(source, 0))
        self._n_bad_files[source] = n_so_far

    def render(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)
