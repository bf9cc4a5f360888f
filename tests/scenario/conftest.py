"""A folder to write scenario files into, and the message a broken one gives."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from airsim.errors import ScenarioError
from airsim.scenario import Scenario, parse_overrides

HEAD = "schema: airsim/1\nname: test\n"
MINIMAL = HEAD + "channel: {snr: 20 dB}\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`write(my=..., base=...)` puts my.yaml and base.yaml into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write_files(**texts: str) -> None:
        for name, text in texts.items():
            Path(f"{name}.yaml").write_text(text)

    return write_files


@pytest.fixture
def message(write: Callable[..., None]) -> Callable[..., str]:
    """What is said about my.yaml with some overrides, and files beside it."""

    def load(text: str, overrides: Sequence[str] = (), **beside: str) -> str:
        write(my=text, **beside)
        with pytest.raises(ScenarioError) as caught:
            Scenario.load("my.yaml", parse_overrides(overrides))
        return str(caught.value)

    return load
