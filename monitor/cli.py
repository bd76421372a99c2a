"""The console script: wires the commands together and turns whatever ends one into its exit code.

0 done, 1 crash, 2 usage (click), 65 too much bad input, 69 a service unreachable, 78 configuration, bundle or schema.
"""

import errno
import traceback
from typing import Any

import click

from monitor.commands import alerts, check, db, deadletters, init, model, posts, report, run, score, sources, status
from monitor.errors import MonitorError
from monitor.printable import printable


class Program(click.Group):
    """The one place where errors become messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a MonitorError ends with its own exit code, anything unexpected with 1."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except MonitorError as error:
            lines = str(error).splitlines() or [type(error).__name__]
            click.echo(f"sentiment-monitor: {chr(10).join(map(printable, lines))}", err=True)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):  # Ctrl-C, at a question too
            ctx.exit(130)
        except Exception as error:
            if ctx.params["debug"] or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise  # click ends quietly when the reader of a pipe is gone
            click.echo(f"sentiment-monitor: {_in_short(error)}", err=True)
            ctx.exit(1)


def _in_short(error: Exception) -> str:
    """What crashed and where, or a file's name and fault; never the error's text, which may quote posts."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or type(error).__name__}: {error.strerror}"
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/monitor/" in frame.filename or "/models/" in frame.filename
    ]
    place = f" at {'/'.join(ours[-1].filename.rsplit('/', 2)[-2:])}:{ours[-1].lineno}" if ours else ""
    return f"crashed: {type(error).__name__}{place}; `sentiment-monitor --debug ...` shows the traceback"


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback when something crashes.")
@click.version_option(package_name="sentiment-monitor")
def program(debug: bool) -> None:  # noqa: FBT001 - click's signature; Program.invoke reads it
    """Watch what people write about brands: posts in, scored rows and daily means in SQL, a Slack alert out.

    \b
    Start here:
      sentiment-monitor demo     see the whole path work, without any configuration
      sentiment-monitor init     write a commented config.yaml
      sentiment-monitor check    say whether everything it names is in order
      sentiment-monitor run      the daemon
    """


for _command in (
    init.init,
    run.run,
    run.demo,
    check.check,
    score.score,
    report.report,
    alerts.alerts,
    deadletters.deadletters,
    posts.posts,
    sources.sources,
    db.db,
    status.status,
    model.model,
):
    program.add_command(_command)


def main() -> None:
    """Entry point of the console script."""
    program(prog_name="sentiment-monitor")
