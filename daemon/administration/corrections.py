"""`porta feedback`: what people have corrected, and the cases that this makes, for `porta finetune`."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.administration.opened import open_ledger
from daemon.administration.records import iso
from daemon.configuration.config import Config
from daemon.errors import BadRequest, StorageUnusable
from daemon.jobs import Correction, CorrectionState
from daemon.ledger.corrections import Corrections
from daemon.process import make_files_private
from daemon.terminal import Say, say, warn

FIGURES = {
    "liver_dice": "liver_dice",
    "lesion_dice": "lesion_dice",
    "liver_volume_difference": "liver_rvd",
    "lesion_volume_difference": "lesion_rvd",
    "lesions": "lesions",
    "corrected_lesions": "shadow_lesions",
}
"""The figures of a volume as they are told, and as the ledger has them."""


def iou_of(dice: float | None) -> float | None:
    """Return the intersection over union that goes with a Dice: D / (2 - D)."""
    return None if dice is None else round(dice / (2 - dice), 4)


def correction_json(correction: Correction) -> dict[str, Any]:
    """Return a correction as scripts read it. Volumes are differences, over what was sent."""
    kept = ("id", "sop_instance_uid", "series_instance_uid", "study_instance_uid", "calling_ae_title")
    told = asdict(correction)
    return {
        **{key: told[key] for key in kept},
        "received_at": iso(correction.received_at),
        "state": correction.state,
        "code": correction.code,
        "job": correction.job_id,
        "model": correction.model,
        "version": correction.version,
        "volumes": [_volume_json(figures) for figures in correction.volumes],
    }


def _volume_json(figures: Any) -> dict[str, Any]:
    told = {name: figures[key] for name, key in FIGURES.items()}
    return {
        "volume": figures["volume_index"],
        **told,
        "liver_iou": iou_of(told["liver_dice"]),
        "lesion_iou": iou_of(told["lesion_dice"]),
        "lesions_removed": figures["lesions"] - figures["lesions_met"],
        "lesions_added": figures["shadow_lesions"] - figures["shadow_lesions_met"],
    }


def print_corrections(config: Config, *, as_json: bool, say: Say = say) -> None:
    """Print the corrections, the newest first. Raises StorageUnusable, LedgerUnavailable."""
    found = [correction_json(each) for each in Corrections(open_ledger(config)).latest()]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for item in found:
        state = item["code"] or item["state"]
        say(f"{item['id']}: series {item['series_instance_uid']}, by {item['calling_ae_title']}: {state}")
        for volume in item["volumes"]:
            changed = f"{volume['lesions_removed']} lesions taken away, {volume['lesions_added']} added"
            dice = f"Dice liver {_shown(volume['liver_dice'])}, lesions {_shown(volume['lesion_dice'])}"
            say(f"    job {item['job']}, {item['model']} {item['version']}: {dice}; {changed}")
    if not found:
        say("nobody has corrected anything")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def export_cases(config: Config, target: Path, *, say: Say = say, warn: Say = warn) -> int:
    """Copy the last correction of each series with its images to a new folder; return how many cases that makes.

    Raises BadRequest for a folder that is not empty, StorageUnusable, LedgerUnavailable.
    """
    make_files_private()
    root, ledger = config.storage.root, open_ledger(config)
    last: dict[str, Correction] = {}
    for item in Corrections(ledger).latest():
        if item.state == CorrectionState.SCORED:
            last.setdefault(item.series_instance_uid, item)
    cases = 0
    try:
        if target.exists() and any(target.iterdir()):
            raise BadRequest(f"{target} is not empty: name a new folder")
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        for item in sorted(last.values(), key=lambda item: item.id):
            if all(figures["liver_dice"] is None for figures in item.volumes):
                warn(f"porta: correction {item.id} has no liver: nothing can be learned from it")
                continue
            images = target / f"case-{item.id}" / "series"
            images.mkdir(parents=True)
            for number, path in enumerate(ledger.instance_paths(item.series_instance_uid)):
                shutil.copyfile(root / path, images / f"{number:05}.dcm")
            shutil.copyfile(root / item.path, images.parent / "seg.dcm")
            cases += 1
            say(f"{images.parent}: series {item.series_instance_uid}")
    except OSError as error:
        raise StorageUnusable(f"{error.filename or target}: {error.strerror}") from error
    say(f"{cases} cases; `porta finetune --base NAME --data {target} -o OUT` learns from them")
    return cases
