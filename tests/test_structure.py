"""The package's shape: imports point down, modules say what they are, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "clover_rl"
ROOMS = (
    ("errors", "yamlfile", "jsonfile", "cache"),
    ("cluster", "applications"),
    ("signals",),
    ("simulation",),
    ("control",),
    ("envs",),
    ("agents",),
    ("serving",),
    ("cli",),
)
"""From the ground up; a room imports from its own floor and from those before it."""
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
SERVING_ROOMS = (
    ("clock", "logs", "protocol", "clients", "partition"),
    ("worker",),
    ("routing",),
    ("instances",),
    ("endpoint",),
    ("control",),
    ("measuring",),
)
"""The same inside `serving`; the live environment stands on top of it all."""
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
MAX_LINES = 600


def generated(path: Path) -> bool:
    return path.stem.endswith(("_pb2", "_pb2_grpc"))


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
WRITTEN = [name for name, path in MODULES.items() if not generated(path)]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(source: ast.Module, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported, wherever in the file it stands."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def imports_of(module: str) -> Iterator[tuple[int, str]]:
    return imports(tree(module), module, is_package=MODULES[module].name == "__init__.py")


def upward(module: str, found: Iterator[tuple[int, str]]) -> list[str]:
    """Imports of this package that lead to a higher floor than the module's own."""
    floor = FLOOR[module.split(".")[1]]
    wrong = []
    for line, name in found:
        parts = name.split(".")
        if parts[0] != "clover_rl" or parts[1:] == ["__version__"]:
            continue
        if len(parts) == 1 or FLOOR.get(parts[1], len(ROOMS)) > floor:
            wrong.append(f"line {line} imports {name}")
    return wrong


def test_every_module_has_a_room() -> None:
    assert {name.split(".")[1] for name in MODULES if "." in name} <= FLOOR.keys()


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_point_down(module: str) -> None:
    assert upward(module, imports_of(module)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import clover_rl.control.loop",
        "from clover_rl.control import loop",
        "from clover_rl import control",
        "from .. import control",
        "from ..control.loop import Loop",
        "def f():\n    from clover_rl.control.loop import Loop",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from clover_rl.control.loop import Loop",
        "import clover_rl",
        "from clover_rl import make",
    ],
)
def test_an_upward_import_is_found_however_it_is_written(text: str) -> None:
    found = imports(ast.parse(text), "clover_rl.simulation.kernel", is_package=False)
    assert len(upward("clover_rl.simulation.kernel", found)) == 1


def test_imports_inside_serving_point_down() -> None:
    floors = {room: floor for floor, rooms in enumerate(SERVING_ROOMS) for room in rooms}
    wrong = [
        f"{module}: line {line} imports {name}"
        for module in MODULES
        if module.startswith("clover_rl.serving.")
        for line, name in imports_of(module)
        if name.startswith("clover_rl.serving.")
        and floors.get(name.split(".")[2], 0) > floors.get(module.split(".")[2], len(SERVING_ROOMS))
    ]
    assert wrong == []


def test_relative_imports_of_a_package_start_from_itself() -> None:
    found = list(imports(ast.parse("from . import tables"), "clover_rl.simulation", is_package=True))
    assert found == [(1, "clover_rl.simulation.tables")]


@pytest.mark.parametrize("module", WRITTEN)
def test_modules_say_what_they_are_and_what_they_offer(module: str) -> None:
    source = tree(module)
    if MODULES[module].name == "__init__.py" and not source.body:
        return
    assert ast.get_docstring(source), "has no docstring"
    offered = [
        node.value
        for node in source.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and any(
            isinstance(target, ast.Name) and target.id == "__all__"
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        )
    ]
    if MODULES[module].name == "__init__.py" and len(source.body) == 1:
        return  # a docstring alone offers nothing
    assert offered, "has no __all__"


def test_no_file_grows_past_the_limit() -> None:
    files = [
        path
        for folder in ("clover_rl", "tests", "benchmarks", "examples")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        if not generated(path)
    ]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {str(path.relative_to(REPOSITORY)): n for path, n in lengths.items() if n > MAX_LINES} == {}


def test_nothing_outside_training_imports_pickle() -> None:
    found = [
        f"{module}: line {line} imports {name}"
        for module in MODULES
        if not module.startswith("clover_rl.agents.train")
        for line, name in imports_of(module)
        if name.split(".")[0] in PICKLES
    ]
    assert found == []


def test_importing_the_package_leaves_heavy_libraries_alone() -> None:
    code = (
        "import sys, clover_rl; "
        "print(*sorted({'torch', 'grpc', 'numba', 'matplotlib', 'onnxruntime'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""
