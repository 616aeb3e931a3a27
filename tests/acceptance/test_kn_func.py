"""What kn func does with this project: it writes a project of its own beside it, installs both, and runs its own."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from tests.acceptance import processes

ROOT = processes.ROOT
UV = str(pathlib.Path(sys.executable).with_name("uv"))
MAIN = """\
import func_python.http
from function import new as handler

if __name__ == "__main__":
    func_python.http.serve(handler)
"""
PROJECTS = {
    "pip": """\
[project]
name = "service"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["func-python==0.8.1", "function @ {root:uri}/f"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.metadata]
allow-direct-references = true
""",
    "poetry": """\
[project]
name = "service"
version = "0.1.0"
requires-python = ">=3.10,<4.0"
dependencies = ["func-python==0.8.1", "function @ ./f"]

[tool.poetry]
package-mode = false

[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
""",
}
"""The projects that func writes for its builders: host and s2i use the first form, pack the second."""
RESOLVE = """\
import pathlib, poetry.core.factory
project = poetry.core.factory.Factory().create_poetry(pathlib.Path.cwd())
for dependency in project.package.requires:
    print(dependency.to_pep_508())
"""
"""What Poetry makes of the second form; the rest of Poetry would ask an API of the index that mirrors lack."""


def run(*command: str, folder: pathlib.Path) -> str:
    """Run a command that needs the package index, return what it prints; skip the test where there is no index."""
    done = subprocess.run(command, cwd=folder, env=processes.clean({}), capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode and any(sign in said for sign in ("dns error", "onnection refused", "Connection error")):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, said
    return done.stdout


@pytest.fixture(params=list(PROJECTS))
def installed(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The project that func writes, with ours as ``f`` in it, both installed into a fresh environment; its folder."""
    service = tmp_path / "service"
    (service / "service").mkdir(parents=True)
    (service / "service" / "__init__.py").touch()
    (service / "service" / "main.py").write_text(MAIN)
    (service / "pyproject.toml").write_text(PROJECTS[request.param])
    lines = (ROOT / ".funcignore").read_text().splitlines()
    left_out = [line.strip("/") for line in lines if line and not line.startswith("#")]
    shutil.copytree(ROOT, service / "f", ignore=shutil.ignore_patterns(*left_out, "build", "*.egg-info"))
    install = (UV, "pip", "install", "--quiet", "--python", ".venv/bin/python")
    run(UV, "venv", "--quiet", "--python", sys.executable, ".venv", folder=service)
    if request.param == "pip":
        run(*install, ".", folder=service)
    else:
        run(UV, "venv", "--quiet", "--python", sys.executable, ".poetry", folder=service)
        run(UV, "pip", "install", "--quiet", "--python", ".poetry/bin/python", "poetry-core", folder=service)
        resolved = run(".poetry/bin/python", "-c", RESOLVE, folder=service)
        run(*install, *resolved.splitlines(), folder=service)
    yield service
    shutil.rmtree(service, ignore_errors=True)


def test_both_of_func_s_projects_install_and_run(installed: pathlib.Path, url: str, tmp_path: pathlib.Path) -> None:
    """In a fresh environment, and the application answers through func's own runner."""
    command = [str(installed / ".venv/bin/python"), "-m", "service.main"]
    with processes.func(tmp_path / "log", {"DATABASE_URL": url}, command=command, folder=installed) as service:
        assert service.request("GET", "/health/liveness")[0] == 200
        assert service.readiness()["database"] == "ok"
        event = {"specversion": "1.0", "id": "1", "source": "s", "type": "dev.knative.apiserver.resource.add"}
        event |= {"kind": "VirtualMachine", "namespace": "team", "name": "by-func", "memory": "1Gi"}
        flat = {f"ce-{name}": value for name, value in event.items()}
        status, _, body = service.request("POST", "/", headers=flat)
    assert (status, body) == (204, b"")


def test_func_run_s_unresolved_references_are_one_sentence(tmp_path: pathlib.Path) -> None:
    """``func run`` passes the values of ``run.envs`` as they stand; the sentence says what to do instead."""
    envs = yaml.safe_load((ROOT / "func.yaml").read_text())["run"]["envs"]
    assert all(env.get("name") for env in envs), "func's host builder refuses an entry without a name"
    environ = {env["name"]: env["value"] for env in envs}
    with (
        pytest.raises(AssertionError, match="the process ended with 1"),
        processes.func(tmp_path / "log", environ),
    ):
        pass
    [line] = [line for line in (tmp_path / "log").read_text().splitlines() if line]
    assert line.startswith("vmledger: CLUSTER_NAME holds a reference to a Secret or a ConfigMap")
    assert "func run --env" in line


def test_func_run_works_with_the_values_themselves(url: str, tmp_path: pathlib.Path) -> None:
    """As ``func run --env DATABASE_URL=...`` gives them."""
    with processes.func(
        tmp_path / "log", {"DATABASE_URL": url, "CLUSTER_NAME": "laptop", "DB_TIMEOUT": "5"}
    ) as service:
        assert json.loads(service.request("GET", "/health/readiness")[2])["database"] == "ok"
