"""`porta explain` with a network whose answer is known: what it writes, where it lies, and what it says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daemon.commands import explanations, standalone
from daemon.commands.cli import main
from daemon.commands.explanations import WAYS, explain_input
from daemon.errors import BadRequest
from dicom_io.files.image_writer import write_ct_series
from dicom_io.geometry import Geometry
from dicom_io.nifti import write_image
from models.architectures import registry
from models.cards import find
from models.inference import Model

LESION_HU, LIVER_HU = 210, 110
NAMES = {f"{way}-lesion-{number}.{end}" for way in WAYS for number in (1, 2) for end in ("png", "nii.gz")}


class Thresholds(nn.Module):
    """Liver above 5 HU, tumour above 160, each pixel by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.bright = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hu = (x[:, 1] + 1) * 200 - 160
        over = self.bright(((hu - 160.0) / 4).relu()[:, None])[:, 0]
        return torch.stack([(5.0 - hu) / 4, (hu - 5.0).clamp(max=60) / 4, 3 * over - 5 + hu / 100], dim=1)


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights' place is taken by thresholds, whose one layer is the explained one."""
    card = find("resnet50")
    how = replace(card.preprocessing, window_hu=(-160.0, 240.0), fine_spacing_mm=2.0)
    model = Model(Thresholds().eval(), replace(card, architecture="thresholds", preprocessing=how), torch.device("cpu"))
    monkeypatch.setitem(registry.EXPLAINED_LAYERS, "thresholds", ("bright",))
    for module in (standalone, explanations):
        monkeypatch.setattr(module, "model_on", lambda name, engine: model)


def stack(*, down: int = 1, right: int = 1, z: NDArray[np.float64] | None = None, tilt: float = 0.0) -> Geometry:
    z = 4.0 * np.arange(26) if z is None else z
    origins = np.c_[np.full(len(z), -40.0 * right), -30.0 * down + tilt * z, right * down * z]
    return Geometry(origins, np.array([right, 0.0, 0]), np.array([0, down, 0.0]), 2.0, 2.0, 56, 60, "1.2.3")


def drawn(geometry: Geometry, lesions: int = 2) -> NDArray[np.int16]:
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1) * [4.0, 2.0, 2.0]
    array = np.full(geometry.shape, -100, np.int16)
    array[np.linalg.norm(index - [50, 50, 60], axis=-1) < 40] = LIVER_HU
    for centre, radius in (((44, 40, 44), 12), ((58, 62, 74), 9))[:lesions]:
        array[np.linalg.norm(index - centre, axis=-1) < radius] = LESION_HU
    return array


def run(source: Path, out: Path, **options: object) -> None:
    explain_input(source, out, model="resnet50", device="cpu", threads=1, **options)  # type: ignore[arg-type]


@pytest.fixture
def series(tmp_path: Path) -> Callable[..., Path]:
    def write(geometry: Geometry | None = None, lesions: int = 2) -> Path:
        geometry = geometry or stack()
        write_ct_series(drawn(geometry, lesions), geometry, tmp_path / "in", seed="explained")
        return tmp_path / "in"

    return write


def written(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


@pytest.mark.parametrize(("down", "right"), [(1, 1), (-1, 1), (-1, -1)])
def test_maps_lie_where_the_lesions_are(
    series: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], down: int, right: int
) -> None:
    """In patient space, read by SimpleITK, whichever way rows and columns run."""
    geometry = stack(down=down, right=right)
    run(series(geometry), tmp_path / "out")
    assert written(tmp_path / "out") == NAMES
    for number, centre in ((1, (11, 20, 22)), (2, (14.5, 31, 37))):
        for way in WAYS:
            image = sitk.ReadImage(str(tmp_path / "out" / f"{way}-lesion-{number}.nii.gz"))
            values = sitk.GetArrayFromImage(image)
            assert 0.1 < values.max() <= 1 and values.min() == 0
            hot = np.argwhere(values > values.max() / 2)
            places = [image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in hot]
            weights = values[tuple(hot.T)]
            if way == "gradcam" and number == 1:
                # Its slices hold some of the other lesion, which looks alike
                weights = weights * (np.linalg.norm(places - geometry.index_to_lps(centre), axis=-1) < 25)
            middle = np.average(places, axis=0, weights=weights)
            assert np.linalg.norm(middle - geometry.index_to_lps(centre)) < 8
    said = capsys.readouterr()
    assert [line.split(": ")[1] for line in said.out.splitlines()] == [
        f"{WAYS[way].kind.title} of lesion {number}, {mm} mm" for number, mm in ((1, 25), (2, 18)) for way in WAYS
    ]


def test_one_lesion_one_way(series: Callable[..., Path], tmp_path: Path) -> None:
    """And what an earlier run left is gone, but nothing else."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("occlusion-lesion-7.png", "mine.png"):
        (out / name).write_bytes(b"")
    run(series(), out, lesion=2, methods=("gradcam",))
    assert written(out) == {"gradcam-lesion-2.png", "gradcam-lesion-2.nii.gz", "mine.png"}


def test_a_lesion_that_is_not_there(series: Callable[..., Path], tmp_path: Path) -> None:
    """One line says which there are."""
    with pytest.raises(BadRequest, match="no lesion 3, they are numbered from 1 to 2"):
        run(series(), tmp_path / "out", lesion=3)


def test_no_lesion_is_said(series: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command itself, whose exit code is 0."""
    source = series(lesions=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["porta", "explain", str(source), "-o", str(tmp_path / "out"), "--lesion", "1"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: no lesion was found, so there is nothing to explain\n"


def test_a_nifti_is_explained(tmp_path: Path) -> None:
    """Its maps lie on its own grid."""
    geometry = stack()
    write_image(drawn(geometry, 1), geometry, tmp_path / "in.nii.gz")
    run(tmp_path / "in.nii.gz", tmp_path / "out", methods=("gradcam",))
    source, heat = nib.load(tmp_path / "in.nii.gz"), nib.load(tmp_path / "out" / "gradcam-lesion-1.nii.gz")
    np.testing.assert_allclose(heat.affine, source.affine)
    assert heat.get_fdata().max() > 0.8


def test_uneven_slices_have_pictures_alone(
    series: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NIfTI has no way to place them."""
    run(series(stack(z=np.cumsum(np.tile([3.0, 5.0], 13)))), tmp_path / "out", methods=("gradcam",))
    assert written(tmp_path / "out") == {"gradcam-lesion-1.png", "gradcam-lesion-2.png"}
    assert "not evenly spaced" in capsys.readouterr().err
