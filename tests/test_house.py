"""The house rules that a machine can check: sizes, docstrings, what is forbidden, and names that stand in one place."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from wherry import errors
from wherry_broker.core import options

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for folder in ("client", "broker") for path in (ROOT / folder).rglob("*.py"))

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 500

CATCH_ALL = {
    "broker/wherry_broker/log/file.py:FileLog._run": "the outermost frame of a thread: whatever it is, the broker ends",
    "broker/wherry_broker/cli/root.py:run": "the outermost frame of the command line: an exit code for everything",
    "broker/wherry_broker/cli/application.py:load": "the outermost frame of an application's module: it may raise all",
    "client/wherry/tasks/runner.py:Runner._run": "the outermost frame of a task: whatever it raises, it failed",
    "client/wherry/tasks/child.py:work": "likewise, in a process of its own",
    "client/wherry/tasks/threads.py:Call.make": "the outermost frame of a call in a thread: who waits for it gets it",
    "client/wherry/tasks/places.py:Processes.run": "whatever ends the wait for a process ends the process",
}
"""Where `except Exception` stands, and why."""

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """One source file."""

    name: str
    text: str
    tree: ast.Module


@cache
def module(path: Path) -> Module:
    text = path.read_text("utf-8")
    return Module(str(path.relative_to(ROOT)), text, ast.parse(text))


def functions(tree: ast.AST, prefix: str = "") -> list[tuple[str, Function]]:
    """All functions and methods with their dotted names, nested ones too."""
    found: list[tuple[str, Function]] = []
    for node in ast.iter_child_nodes(tree):
        name = f"{prefix}{node.name}" if isinstance(node, Function | ast.ClassDef) else ""
        if isinstance(node, Function):
            found.append((name, node))
        found += functions(node, f"{name}." if name else prefix)
    return found


def public(tree: ast.Module) -> list[tuple[str, Function | ast.ClassDef]]:
    """What a module offers: its classes and functions, and the methods of the classes, whose names are public."""
    found: list[tuple[str, Function | ast.ClassDef]] = []
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            found.append((node.name, node))
            if isinstance(node, ast.ClassDef):
                methods = [child for child in node.body if isinstance(child, Function)]
                found += [(f"{node.name}.{each.name}", each) for each in methods if not each.name.startswith("_")]
    return found


@pytest.fixture(params=SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def source(request) -> Module:
    return module(request.param)


def test_there_are_sources():
    assert len(SOURCES) > 40


def test_functions_are_short(source):
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions(source.tree)}
    over = {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX}
    assert not over, f"{source.name}: split functions of more than {FUNCTION_LINES_MAX} lines"


def test_modules_are_short(source):
    lines = source.text.count("\n")
    assert lines <= MODULE_LINES_MAX, f"{source.name}: split it"


def test_everything_public_is_described(source):
    bare = [] if ast.get_docstring(source.tree) else ["the module"]
    bare += [name for name, node in public(source.tree) if not ast.get_docstring(node) and not is_overload(node)]
    assert not bare, f"{source.name}: no docstring"


def is_overload(node: ast.AST) -> bool:
    return any("overload" in ast.unparse(each) for each in getattr(node, "decorator_list", ()))


def test_nothing_is_put_off(source):
    marks = [line for line in source.text.splitlines() if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line)]
    assert not marks, f"{source.name}: do it, or write it into an issue"


def test_data_never_becomes_code(source):
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{source.name}:{node.lineno}"
        if isinstance(node, ast.Import):
            roots = {alias.name.partition(".")[0] for alias in node.names}
            assert not roots & FORBIDDEN_MODULES, f"{source.name}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in FORBIDDEN_MODULES, f"{source.name}:{node.lineno}"


# Catch-alls.


def catch_alls(tree: ast.Module) -> Counter[str]:
    """The functions that catch everything, with how often."""
    found: Counter[str] = Counter()
    inner = [(name, node) for name, node in functions(tree)]
    for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
        caught = {"bare"} if handler.type is None else set(re.findall(r"\w+", ast.unparse(handler.type)))
        if caught & {"bare", "Exception", "BaseException"}:
            around = [n for n, node in inner if node.lineno <= handler.lineno <= (node.end_lineno or 0)]
            found[around[-1] if around else "<module>"] += 1
    return found


def test_only_outermost_frames_catch_everything(source):
    found = {f"{source.name}:{name}": count for name, count in catch_alls(source.tree).items()}
    assert set(found) <= set(CATCH_ALL), "name the exceptions, or the reason in CATCH_ALL"
    assert all(count == 1 for count in found.values()), found


def test_no_excuse_outlives_its_reason():
    names = {f"{module(path).name}:{name}" for path in SOURCES for name in catch_alls(module(path).tree)}
    assert set(CATCH_ALL) <= names, "take what is gone out of CATCH_ALL"


# Names that stand in one place.


def test_every_figure_of_the_tests_is_described():
    scripts = [path for kind in ("*.py", "*.sh") for path in (ROOT / "tests").rglob(kind)]
    used = {name for path in scripts for name in re.findall(r"\bWHERRY_TEST_\w+[A-Z]", path.read_text("utf-8"))}
    told = set(re.findall(r"^\| `(WHERRY_TEST_\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE))
    assert used == told, "the table in CONTRIBUTING.md has a line for each"


def classes(node: type) -> list[type]:
    return [node, *(each for child in node.__subclasses__() for each in classes(child))]


def test_every_error_code_is_one_class():
    refusals = [cls for cls in classes(errors.Refused) if cls is not errors.Refused]
    codes = Counter(cls.code for cls in refusals)
    assert all(count == 1 for count in codes.values()), codes
    assert {cls.code: cls for cls in refusals} == errors.REFUSALS


def test_error_codes_in_the_sources_are_known():
    known = {*errors.REFUSALS, errors.ProtocolError.code}
    for path in SOURCES:
        for node in ast.walk(module(path).tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                code = node.args[0]
                assert isinstance(code, ast.Constant), f"{module(path).name}:{node.lineno}: the code is written out"
                assert code.value in known, f"{module(path).name}:{node.lineno}"


def test_every_option_is_declared_once_and_limited():
    fields = options.QueueOptions().as_map()
    defined = [
        f"{module(path).name}:{node.target.id}"
        for path in SOURCES
        if "/broker/" in str(path)
        for node in ast.walk(module(path).tree)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id in fields
        and node.value is not None
    ]
    assert sorted(defined) == sorted(f"broker/wherry_broker/core/options.py:{name}" for name in fields)
    unlimited = {name for name in fields if name not in options.LIMITS and name not in options.CHOICES}
    assert {name for name in unlimited if type(fields[name]) is not bool} == set()
    assert {*options.LIMITS, *options.CHOICES} <= set(fields)


def test_every_option_is_described():
    text = options.QueueOptions.__doc__ or ""
    assert [name for name in options.QueueOptions().as_map() if f"        {name}: " not in text] == []
