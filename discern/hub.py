"""Models on the Hugging Face Hub: a bundle goes up as it is, and comes down verified.

    from discern.hub import HubModel

    HubModel.of("runs/tuned").push_to_hub("me/birds")
    HubModel.from_pretrained("me/birds").predict(["photo.jpg"])

Needs `pip install 'discern[hub]'`.  Nothing goes up or down unless it is asked for here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import ModelHubMixin

from discern.models.weights import FILES, GUARD, MANIFEST, Bundle, load_bundle
from discern.predict import predict_files
from discern.seal.sign import SIGNATURE, requiring

PARTS = (*FILES, MANIFEST, GUARD, SIGNATURE)  # nothing else is fetched
CARD = """\
---
library_name: {{library_name}}
tags: [discern, image-classification, video-classification]
---

A model of Discern: weights and settings in safetensors and JSON, under a manifest.

```python
from discern.hub import HubModel
HubModel.from_pretrained("THIS/MODEL").predict(["photo.jpg"])
```
"""


class HubModel(ModelHubMixin, library_name="discern", tags=["discern"], model_card_template=CARD):  # type: ignore[call-arg]
    """A bundle with `save_pretrained`, `from_pretrained` and `push_to_hub`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        # as they were verified: what lies in that folder later does not matter
        self._files = {
            name: (bundle.path / name).read_bytes()
            for name in PARTS
            if (bundle.path / name).is_file()
        }

    @classmethod
    def of(cls, model: Path | str) -> HubModel:
        """A run folder or bundle of this machine.  Raises UsageError, IntegrityError."""
        return cls(load_bundle(model))

    def predict(self, files: Sequence[Path | str], top: int = 1) -> list[dict[str, Any]]:
        """What `discern predict --json` says of the files."""
        return predict_files(self.bundle, files, top)

    def _save_pretrained(self, save_directory: Path) -> None:
        for name, data in self._files.items():
            (save_directory / name).write_bytes(data)
        load_bundle(save_directory)  # what goes up is whole

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: Path | str | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        require_signature: Path | str | None = None,
        **rest: Any,
    ) -> HubModel:
        with requiring(require_signature):
            if Path(model_id).is_dir():
                return cls(load_bundle(model_id))
            fetched = huggingface_hub.snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=list(PARTS),
            )
            return cls(load_bundle(_plain(Path(fetched))))


def _plain(fetched: Path) -> Path:
    """A copy of a snapshot without links, which no bundle may hold; beside it, once."""
    place = fetched.parent / f"{fetched.name}-discern"
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=fetched.parent) as home:
            made = Path(home) / "model"
            made.mkdir()
            for name in PARTS:
                if (fetched / name).is_file():
                    shutil.copyfile(fetched / name, made / name)
            try:
                made.rename(place)
            except OSError:  # another process was first
                if not place.is_dir():
                    raise
    return place
