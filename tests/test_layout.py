"""The shape of the house: who imports whom, and what the public names are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vidmod

PACKAGE = Path(vidmod.__file__).parent
# A module imports only from those above it.
ORDER = (
    "_version",
    "errors",
    "urls",
    "allocation",
    "closing",
    "schema",
    "timebase",
    "cuts",
    "outputs",
    "digest",
    "predictions",
    "redaction",
    "blurring",
    "media",
    "tracking",
    "models",
    "sampling",
    "coverage",
    "containment",
    "workers",
    "outlet",
    "messages",
    "reading",
    "gpus",
    "smoothing",
    "policy",
    "timeline",
    "store",
    "judging",
    "reviewing",
    "annotations",
    "exports",
    "imports",
    "targets",
    "recall",
    "plans",
    "settings",
    "streams",
    "describing",
    "jobs",
    "crew",
    "scanning",
    "redacting",
    "live",
    "inputs",
    "pages",
    "inventory",
    "terminal",
    "reporting",
    "cli",
    "__main__",
)
SINGLE_IMPORTERS = {
    "av": "media",
    "openvino": "models",
    "onnx": "models",
    "onnxruntime": "models",
    "tensorrt": "models",
    "cuda": "models",
    "cv2": "models",
    "jinja2": "pages",
    "markupsafe": "pages",
    "rich": "terminal inventory reporting cli",
    "click": "cli",
    "jsonschema_rs": "schema",
    "PIL": "pages blurring",
    "matplotlib": "exports",
    "opentimelineio": "exports",
    "subprocess": "workers models containment live",
    "prometheus_client": "live",
    "sqlite3": "live",
    "pyrage": "live",
}
# In vidmod/live: what may stand still, a disk, a terminal or somebody else's server, is never waited for.
LIVE_THREADS = ("metrics.py", "sealing.py", "spool.py", "webhooks.py", "writing.py")


def modules() -> list[tuple[str, Path]]:
    return [
        (path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__init__.py" or path.parent != PACKAGE
    ]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: imports are absolute"
            names.update([node.module] if node.module != "vidmod" else [f"vidmod.{item.name}" for item in node.names])
    return names


def test_every_module_has_its_place_in_the_order() -> None:
    assert {name for name, _ in modules()} == set(ORDER)


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value).rpartition("vidmod/")[2])
def test_a_module_imports_only_from_above(name: str, path: Path) -> None:
    for target in imported(path):
        if target.startswith("vidmod."):
            other = target.split(".")[1]
            assert ORDER.index(other) <= ORDER.index(name), f"{name} imports {other}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value).rpartition("vidmod/")[2])
def test_foreign_libraries_have_one_importer(name: str, path: Path) -> None:
    for target in imported(path):
        owners = SINGLE_IMPORTERS.get(target.partition(".")[0])
        assert owners is None or name in owners.split(), f"{path} imports {target}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value).rpartition("vidmod/")[2])
def test_only_few_start_threads(name: str, path: Path) -> None:
    if {"threading", "multiprocessing"} & imported(path):
        assert name in ("digest", "workers") or (name == "live" and path.name in LIVE_THREADS)


def test_public_names() -> None:
    assert vidmod.__all__ == [
        "Policy",
        "Progress",
        "RedactSettings",
        "Redaction",
        "Redactor",
        "ScanSettings",
        "Scanner",
        "Smoothing",
        "Timeline",
        "VidmodError",
        "__version__",
        "export",
        "import_review",
        "judge",
        "redact",
        "report",
        "scan",
    ]
    for name in vidmod.__all__:
        assert getattr(vidmod, name) is not None
    with pytest.raises(AttributeError):
        vidmod.nothing  # noqa: B018


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vidmod.cli import cli; cli(['--help'], standalone_mode=False); "
        "heavy = 'numpy av cv2 openvino onnxruntime rich matplotlib opentimelineio'.split(); "
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def modules_loaded_by(module: str, *names: str) -> list[str]:
    code = f"import sys, vidmod.{module}; print(*(name for name in {names!r} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_judging_imports_no_decoder_and_no_runtime() -> None:
    assert modules_loaded_by("judging", "av", "cv2", "openvino", "onnxruntime") == []


def test_what_watches_live_processes_imports_no_decoder_and_no_runtime() -> None:
    assert modules_loaded_by("live.processes.supervisor", "av", "openvino", "onnxruntime") == []


@pytest.mark.parametrize("module", ["pages.report", "pages.folders"])
def test_reports_are_made_without_a_decoder_and_a_runtime(module: str) -> None:
    assert modules_loaded_by(module, "av", "openvino", "onnxruntime") == []
    assert modules_loaded_by("pages.worker", "av") == ["av"]
