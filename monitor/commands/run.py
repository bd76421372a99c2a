"""`run`, the daemon, and `demo`, the daemon with simulated brands."""

from pathlib import Path

import click

from monitor.commands.options import config_option, example, load_config


@click.command(
    short_help="The daemon",
    epilog=example("run", "run --once --wait-s 30", "run --role ingest --config /etc/sentiment-monitor/config.yaml"),
)
@config_option
@click.option("--once", is_flag=True, help="Take in everything that is there now, refresh, evaluate, deliver, and end.")
@click.option(
    "--wait-s",
    type=click.FloatRange(min=0),
    help="With --once: how long to wait for services and Slack.  [default: 60]",
)
@click.option(
    "--role",
    type=click.Choice(["all", "ingest", "schedule"]),
    default="all",
    show_default=True,
    help="ingest: sources only; schedule: the scheduled jobs only.",
)
@click.pass_context
def run(ctx: click.Context, config_path: Path, *, once: bool, wait_s: float | None, role: str) -> None:
    """Run the daemon: read the sources, score, store, refresh, alert.

    Exit codes: 0 done, 65 too much bad input (--once), 69 a service stayed unreachable (--once), 78 configuration.
    """
    if wait_s is not None and not once:
        raise click.UsageError("--wait-s goes with --once")
    from monitor import daemon

    config = load_config(config_path)
    wait_s = 60.0 if wait_s is None else wait_s
    ctx.exit(daemon.run(config, role, once=once, wait_s=wait_s, reload=lambda: load_config(config_path)))


@click.command(
    short_help="The daemon on simulated brands: nothing to configure", epilog=example("demo", "demo --port 8090")
)
@click.option("--config", "config_path", type=click.Path(), help="Ignored: the demo brings a configuration of its own.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the status page; by default 8080, or a free one.")
@click.pass_context
def demo(ctx: click.Context, config_path: str | None, port: int | None) -> None:  # noqa: ARG001 - every command has --config
    """Watch the real daemon work on three simulated brands, one of which dips; no secrets are read."""
    import monitor.demo

    ctx.exit(monitor.demo.demo(port))
