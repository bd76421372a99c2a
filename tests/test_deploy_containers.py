"""deploy/container and deploy/kubernetes, checked without engine or cluster; READMEs say what that leaves open."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deploy_files import CONTAINER, DEPLOY, ROOT, SECRETS, STOP_S, compose, documents, run

from monitor.config import HttpSection
from monitor.health import Health
from monitor.http import HttpServer
from monitor.metrics import Metrics

DOCKERFILES = [CONTAINER / "Dockerfile", CONTAINER / "Dockerfile.cuda"]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_follow_the_specification(name: str, tmp_path: Path) -> None:
    """Both compose files are valid by the Compose specification's own JSON schema."""
    filled = tmp_path / name
    filled.write_text(yaml.safe_dump(compose(name)), encoding="utf-8")
    verdict = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", filled)
    assert verdict.returncode == 0, verdict.stdout


def test_compose_refers_only_to_what_is_there() -> None:
    """What compose.yaml names is there: files, volumes, secrets, services; .env.example has its variables."""
    file = compose()
    for service in file["services"].values():
        assert set(service.get("secrets", [])) <= set(file["secrets"])
        assert {each["source"] for each in service.get("configs", [])} <= set(file["configs"])
        assert set(service.get("depends_on", {})) <= set(file["services"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (CONTAINER / source).exists() if source.startswith(".") else source in file["volumes"]
    assert (CONTAINER / file["configs"]["monitor"]["file"]).is_file()
    text = (CONTAINER / "compose.yaml").read_text(encoding="utf-8")
    example = (CONTAINER / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+):-([^}]*)\}", text)) == set(re.findall(r"(?m)^(\w+)=(.*)$", example))


def test_the_monitor_in_compose_is_confined_and_gets_time_to_stop() -> None:
    """Read-only root, no capability, secrets as files, and longer than the daemon's own promise before it is killed."""
    monitor = compose()["services"]["monitor"]
    assert monitor["read_only"] is True
    assert monitor["cap_drop"] == ["ALL"]
    assert int(monitor["stop_grace_period"].removesuffix("s")) > STOP_S
    assert set(monitor["secrets"]) <= set(SECRETS)
    assert not set(monitor["environment"]) & set(SECRETS)
    target = monitor["configs"][0]["target"]
    assert monitor["command"] == ["run", "--config", target]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions in order, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", dockerfile.read_text(encoding="utf-8")))
    pairs = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, value.strip()) for name, _, value in pairs]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_run_unprivileged_and_get_signals(dockerfile: Path) -> None:
    """A numeric user other than root, as Kubernetes wants it, and no shell between SIGTERM and the program."""
    last = dict(instructions(dockerfile))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["ENTRYPOINT"]) == ["sentiment-monitor"]
    assert json.loads(last["CMD"]) == ["run"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_compile_the_extension_and_leave_the_compiler_behind(dockerfile: Path) -> None:
    """The compiler comes before the program, a missing extension fails the build, and the image has no compiler."""
    _, build, image = dockerfile.read_text(encoding="utf-8").split("\nFROM ")
    installed = build.index("pip install --constraint constraints.txt .")
    assert build.index("apt-get install -y --no-install-recommends gcc libc6-dev") < installed
    assert build.index('python -c "import models._encoding, models._fixed_point"') > installed
    assert "apt-get" not in image


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_made_from_files_that_are_there(dockerfile: Path) -> None:
    """Every COPY from the repository finds its file, and the ignore file beside the Dockerfile lets it through."""
    ignore = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text(encoding="utf-8")
    let_in = {line[1:] for line in ignore.splitlines() if line.startswith("!")}
    copied = [
        value.split()[:-1] for name, value in instructions(dockerfile) if name == "COPY" and "--from" not in value
    ]
    assert {source for sources in copied for source in sources} == let_in
    assert [source for source in let_in if not (ROOT / source).exists()] == []


@pytest.fixture
def server() -> Iterator[tuple[HttpServer, Health]]:
    """The monitor's own web server on a free port, and the health it reports."""
    health = Health(Metrics())
    server = HttpServer(HttpSection(port=0), None, health, Metrics(), lambda: "")
    server.start()
    yield server, health
    server.stop()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_health_check_tells_a_stuck_daemon(dockerfile: Path, server: tuple[HttpServer, Health]) -> None:
    """HEALTHCHECK, run against the real server, passes while Kafka is away and fails once a loop is stuck."""
    http, health = server
    command = json.loads(dict(instructions(dockerfile))["HEALTHCHECK"].partition("CMD ")[2])
    command[-1] = command[-1].replace("127.0.0.1:8080", f"127.0.0.1:{http.port}")
    command[0] = sys.executable
    health.down("kafka", "no broker answers")
    assert run(*command).returncode == 0
    health._turns["pipeline"] = -1e9  # a loop that last turned long ago
    assert run(*command).returncode != 0


@pytest.mark.parametrize("role", ["ingest", "schedule"])
def test_kubernetes_runs_each_role_confined(role: str) -> None:
    """The pod runs the role it is named after, unprivileged, with the server's probes and time to stop."""
    deployment, budget = documents(DEPLOY / "kubernetes" / f"{role}.yaml")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["args"] == ["run", "--role", role, "--config", f"{mounts['config']}/config.yaml"]
    assert container["env"] == [{"name": "CREDENTIALS_DIRECTORY", "value": mounts["secrets"]}]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["terminationGracePeriodSeconds"] > STOP_S
    assert set(mounts) == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_kustomization_names_every_manifest() -> None:
    """`kubectl apply -k` takes every file of the folder and makes the ConfigMap and image name that the pods use."""
    folder = DEPLOY / "kubernetes"
    (kustomization,) = documents(folder / "kustomization.yaml")
    beside = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", "config.yaml"}
    assert set(kustomization["resources"]) == beside
    assert kustomization["configMapGenerator"] == [{"name": "sentiment-monitor", "files": ["config.yaml"]}]
    pod = documents(folder / "ingest.yaml")[0]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == kustomization["images"][0]["name"]
    assert {"name": "config", "configMap": {"name": "sentiment-monitor"}} in pod["volumes"]
