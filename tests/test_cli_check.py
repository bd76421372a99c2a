"""`check`: a line for every part, and the exit code of the worst. `alerts test`: the way to Slack."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from batches import NOW
from cli_runs import Cli, make_cli, seed
from fixtures_slack import Answer, FakeSlack
from privileges import without_privileges
from tiny_models import make_bundle

from monitor import device
from monitor.config import Config
from monitor.errors import StoreUnavailable
from monitor.posts import StreamPartition
from monitor.store import alerts as alert_store
from monitor.store import evaluation, positions
from monitor.store.database import Database

PARTS = ["configuration", "bundle", "device", "store", "source inbox", "Slack"]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small valid bundle."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def cli(tmp_path: Path, sqlite_url: str, bundle: Path) -> Cli:
    """Commands with everything in order."""
    return make_cli(tmp_path, sqlite_url, scoring={"bundle": str(bundle)})


def lines_of(cli: Cli, exit_code: int) -> dict[str, str]:
    """What `check` says of each part; every part must have its line."""
    result = cli.run("check")
    assert result.exit_code == exit_code, result.output
    listed = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert [line[6:28].strip() for line in listed] == PARTS
    return {line[6:28].strip(): line for line in listed}


def test_everything_in_order(tmp_path: Path, store_url: str, database: Database, bundle: Path) -> None:
    """Each part is in order, on either database: exit code 0."""
    seed(database)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.csv").touch()
    (tmp_path / "inbox" / "processing").mkdir()
    (tmp_path / "inbox" / "processing" / "20261121T101500Z-b.csv").touch()
    lines = lines_of(make_cli(tmp_path, store_url, scoring={"bundle": str(bundle)}), 0)
    assert all(line.startswith("ok ") for line in lines.values())
    assert "up to date" in lines["store"]
    assert "1 files wait, 1 half read" in lines["source inbox"]
    assert "dry run" in lines["Slack"]


def test_a_fresh_folder_is_in_order(tmp_path: Path, bundle: Path) -> None:
    """Before the first start neither database nor folder is there, and `check` makes neither."""
    cli = make_cli(tmp_path, "sqlite:///data/sentiment.db", scoring={"bundle": str(bundle)})
    lines = lines_of(cli, 0)
    assert "is made at the first start" in lines["store"]
    assert "is made at the first start" in lines["source inbox"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_an_altered_bundle_is_named(tmp_path: Path, sqlite_url: str, bundle: Path) -> None:
    """One altered file of the bundle is named; the other parts still have their lines: 78."""
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "tokenizer.json").write_text("{}", encoding="utf-8")
    lines = lines_of(make_cli(tmp_path, sqlite_url, scoring={"bundle": str(copy)}), 78)
    assert lines["bundle"].startswith("FAIL")
    assert "tokenizer.json is altered" in lines["bundle"]
    assert lines["store"].startswith("ok ")


def test_a_database_that_is_away_is_69(tmp_path: Path, bundle: Path) -> None:
    """A database that does not answer is told without its password; nothing else is said twice because of it: 69."""
    environment = {"SENTIMENT_MONITOR__STORE__URL": "postgresql://me:geheim@127.0.0.1:1/d"}
    cli = make_cli(tmp_path, "sqlite:///a.db", environment, scoring={"bundle": str(bundle)})
    lines = lines_of(cli, 69)
    assert [part for part, line in lines.items() if line.startswith("FAIL")] == ["store"]
    assert "geheim" not in cli.run("check").output


def test_a_database_that_cannot_be_made_is_69(tmp_path: Path, bundle: Path) -> None:
    """Where its folder cannot be written, the first start would wait in vain."""
    cli = make_cli(tmp_path, "sqlite:////proc/none/sentiment.db", scoring={"bundle": str(bundle)})
    lines = lines_of(cli, 69)
    assert [part for part, line in lines.items() if line.startswith("FAIL")] == ["store"]
    assert "/proc/none/sentiment.db cannot be made" in lines["store"]


def test_a_database_that_cannot_be_written_is_told(sqlite_url: str) -> None:
    """One that answers and takes nothing is not in order."""
    content = Path(sqlite_url.removeprefix("sqlite:///")).read_bytes()
    with without_privileges() as folder:
        path = folder / "sentiment.db"
        path.write_bytes(content)
        with closing(Database(f"sqlite:///{path}")) as database:
            positions.check_writable(database)
        path.chmod(0o444)
        with closing(Database(f"sqlite:///{path}")) as database, pytest.raises(StoreUnavailable, match="readonly"):
            positions.check_writable(database)


def test_a_paused_source_is_69(cli: Cli, tmp_path: Path, sqlite_url: str) -> None:
    """It waits for a person, and its line says why it does."""
    (tmp_path / "inbox").mkdir()
    with closing(Database(sqlite_url)) as database:
        positions.pause(database, "inbox", "60 of the last 100", {StreamPartition("posts@1", 0): 0})
    line = lines_of(cli, 69)["source inbox"]
    assert line.startswith("FAIL")
    assert "paused: 60 of the last 100; `sources resume inbox`" in line


def test_an_unmigrated_database_is_78_when_it_is_migrated_by_hand(tmp_path: Path, bundle: Path) -> None:
    """With migrate_on_start off, tables that are missing are told with the command that makes them."""
    store = {"url": "sqlite:///x.db", "migrate_on_start": False}
    cli = make_cli(tmp_path, "", scoring={"bundle": str(bundle)}, store=store)
    assert "db upgrade" in lines_of(cli, 78)["store"]
    cli.ok("db", "upgrade")
    assert "up to date" in lines_of(cli, 0)["store"]


def test_a_folder_that_is_a_file_is_69(tmp_path: Path, cli: Cli) -> None:
    """A drop folder that cannot be one is told."""
    (tmp_path / "inbox").touch()
    assert "is not a folder" in lines_of(cli, 69)["source inbox"]


def test_secrets_that_do_not_fit_are_78(tmp_path: Path, sqlite_url: str, bundle: Path) -> None:
    """What would refuse the start is on the configuration's line."""
    cli = make_cli(tmp_path, sqlite_url, scoring={"bundle": str(bundle)}, http={"host": "0.0.0.0"})
    assert lines_of(cli, 78)["configuration"].startswith("FAIL")
    assert "HTTP_TOKEN" in cli.run("check").stdout


@pytest.mark.parametrize(
    ("token", "exit_code", "expected"),
    [("xoxb-good", 0, "the token works; alerts go to #brand-alerts"), ("xoxb-bad", 78, "Slack refuses the token")],
)
def test_slack_is_asked(
    tmp_path: Path, sqlite_url: str, bundle: Path, slack: FakeSlack, token: str, exit_code: int, expected: str
) -> None:
    """A bot token is tried on Slack itself, and a refused one is a matter of configuration."""
    alerts = {"slack": {"base_url": slack.url}}
    env = {"SLACK_BOT_TOKEN": token}
    cli = make_cli(tmp_path, sqlite_url, env, scoring={"bundle": str(bundle)}, alerts=alerts)
    assert expected in lines_of(cli, exit_code)["Slack"]
    assert slack.posted == []
    assert token not in cli.run("check").output


def test_slack_away_is_69(tmp_path: Path, sqlite_url: str, bundle: Path) -> None:
    """A Slack that does not answer is a service that is away."""
    alerts = {"slack": {"base_url": "http://127.0.0.1:1/api/"}}
    env = {"SLACK_BOT_TOKEN": "xoxb-good"}
    cli = make_cli(tmp_path, sqlite_url, env, scoring={"bundle": str(bundle)}, alerts=alerts)
    assert "Slack does not answer" in lines_of(cli, 69)["Slack"]


def test_alerts_that_slack_does_not_take_are_told(
    tmp_path: Path, store_url: str, database: Database, bundle: Path
) -> None:
    """An alert that waits because Slack refused it shows with Slack's word: 69."""
    seed(database)
    evaluation.evaluate_all(database, Config(), NOW)
    claimed = alert_store.claim(database, NOW, 60)
    assert claimed is not None
    alert_store.mark(database, claimed, alert_store.Change("pending", NOW, error="channel_not_found"), NOW)
    lines = lines_of(make_cli(tmp_path, store_url, scoring={"bundle": str(bundle)}), 69)
    assert "1 alerts wait, for Slack did not take them: channel_not_found" in lines["Slack"]


def test_show_prints_the_configuration_in_force(cli: Cli) -> None:
    """--show prints the whole configuration with the environment's changes."""
    cli.env["SENTIMENT_MONITOR__ALERTS__MIN_POSTS"] = "77"
    assert "min_posts: 77" in cli.ok("check", "--show")


def test_devices_without_a_gpu() -> None:
    """`auto` and `cpu` can always be had; CUDA where there is none cannot, and the reason is given."""
    assert device.describe("cpu")[0]
    usable, sentence = device.describe("auto")
    assert usable
    assert sentence.startswith("cuda:0" if device.cuda_devices() and device.torch_cuda() else "cpu, since ")
    usable, sentence = device.describe("cuda:99")
    assert not usable
    assert sentence.startswith("cuda:99 is configured, but ")


@pytest.mark.gpu
def test_devices_with_a_gpu() -> None:
    """What the driver says without torch is what torch says."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    assert device.cuda_devices() == [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    assert device.torch_cuda() == torch.version.cuda
    assert device.describe("auto")[1].startswith(f"cuda:0, {torch.cuda.get_device_name(0)}")


def test_alerts_test_posts_one_message(tmp_path: Path, sqlite_url: str, slack: FakeSlack) -> None:
    """The test message reaches the configured channel by the token, and the webhook's by the webhook."""
    alerts = {"slack": {"base_url": slack.url}}
    make_cli(tmp_path, sqlite_url, {"SLACK_BOT_TOKEN": "xoxb-good"}, alerts=alerts).ok("alerts", "test")
    make_cli(tmp_path, sqlite_url, {"SLACK_WEBHOOK_URL": slack.webhook_url}).ok("alerts", "test")
    assert [one.channel for one in slack.posted] == ["C0BRANDALRT", "webhook"]


def test_alerts_test_prints_the_message_of_a_dry_run(cli: Cli) -> None:
    """Without a token the message is printed and nothing is sent."""
    result = cli.run("alerts", "test")
    assert result.exit_code == 0
    assert "Alerts reach this channel" in result.stdout
    assert "not sent" in result.stderr


def test_alerts_test_tells_slacks_refusal(tmp_path: Path, sqlite_url: str, slack: FakeSlack) -> None:
    """When Slack does not take the message, its word is told: 69."""
    slack.script.append(Answer(error="not_in_channel"))
    cli = make_cli(tmp_path, sqlite_url, {"SLACK_BOT_TOKEN": "xoxb-good"}, alerts={"slack": {"base_url": slack.url}})
    assert "not_in_channel" in cli.fails(69, "alerts", "test")
