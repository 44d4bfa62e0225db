"""What the documentation says of tests, in a run of pytest as users have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from installing import DEADLINE_S, ROOT, plain_environ

PLUGIN = "wherry_broker.pytest_plugin"


def run_pytest(folder, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text, "utf-8")
    sources = os.pathsep.join(str(ROOT / name) for name in ("client", "broker"))
    environ = plain_environ() | {"PYTHONPATH": sources, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, *options, "test_it.py"]
    return subprocess.run(
        command, check=False, cwd=folder, env=environ, capture_output=True, text=True, timeout=DEADLINE_S
    )


def test_the_examples_of_the_documentation_pass(tmp_path):
    document = (ROOT / "docs" / "testing.md").read_text("utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    options = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto", "-W", "error"]
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = run_pytest(tmp_path, "\n\n".join(examples), *options)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "3 passed" in done.stdout


def test_a_run_that_asks_for_nothing_loads_nothing(tmp_path):
    text = f"""
import sys

def test_it():
    assert {PLUGIN!r} in sys.modules
    assert "wherry" not in sys.modules
"""
    done = run_pytest(tmp_path, text)
    assert done.returncode == 0, done.stdout


def test_a_server_that_does_not_start_says_why(tmp_path):
    text = "def test_it(wherry_server_with):\n    wherry_server_with('--drain-s', 'soon')\n"
    done = run_pytest(tmp_path, text)
    assert done.returncode == 1
    assert "RuntimeError: no broker has started: wherry: drain_s 'soon'" in done.stdout


def test_the_package_names_the_plugin():
    """Under the name of its module: pytest then knows it for the same one when somebody names that."""
    import tomllib  # noqa: PLC0415

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
