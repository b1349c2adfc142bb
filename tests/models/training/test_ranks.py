"""Two processes train as one: the same losses and weights for the same batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.errors import DeviceUnavailable
from models.training.ranks import Rank, join_ranks

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(__file__).with_name("trained_by_ranks.py")


def trained(out: Path, *launcher: str) -> list[list[str]]:
    """The rows of loss.csv of a run of trained_by_ranks."""
    command = [sys.executable, *launcher, str(SCRIPT), str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "3" if launcher else "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return [row.split(",") for row in (out / "loss.csv").read_text().splitlines()]


def test_two_processes_have_the_loss_and_the_weights_of_one(tmp_path: Path) -> None:
    """Dice over the whole batch, not the mean of two Dices: gathered, and its gradient with it. In float32."""
    one = trained(tmp_path / "one")
    two = trained(tmp_path / "two", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert [row[0] for row in two] == [row[0] for row in one] == ["step", "1", "2", "3", "4"]
    for ours, theirs in zip(two[1:], one[1:], strict=True):
        assert float(ours[1]) == pytest.approx(float(theirs[1]), abs=1e-6)
    weights, expected = (load_file(tmp_path / name / "plain-last.safetensors") for name in ("two", "one"))
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=0)
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    for number in range(2):
        assert (tmp_path / "two" / f"told-{number}").read_text() == f"['from 0'] {share}", "names of the first, cores"
    assert (tmp_path / "two" / "dice.csv").read_text() == (tmp_path / "one" / "dice.csv").read_text()


def test_alone_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that torchrun did not start is the first of one."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_ranks("cpu", 1) as rank:
        assert rank == Rank(0, 1, torch.device("cpu"))
        assert rank.first
        assert rank.any(True)
        assert not rank.any(False)
        part = torch.ones(2)
        assert rank.gather(part) is part
        assert rank.told(["a"]) == ["a"]
        rank.wait()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_said() -> None:
    """In a word, not by CUDA's own error."""
    with pytest.raises(DeviceUnavailable, match="not available"), join_ranks("cuda"):
        pass
