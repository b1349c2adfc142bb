"""The command line. Exit codes: 0 done, 1 failed, 2 the input or the configuration is wrong (one line on stderr)."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from daemon import log
from daemon.commands import console_commands, feedback_commands, model_commands
from daemon.commands.admin_commands import cancel, configured, jobs, read, reload, rerun, retry, rules, send, study
from daemon.commands.init_command import init
from daemon.commands.options import (
    ConfigOption,
    JsonOption,
    LedgerAction,
    Method,
    Modality,
    Part,
    Pictures,
    Prefer,
    PreferOption,
)
from daemon.commands.own_models import findable, print_verified, require_models, require_models_apart
from daemon.commands.train_extra import require_train_extra
from daemon.commands.training_options import HELD_OUT, MACHINE, TrainConfigOption, takes_keys
from daemon.errors import ConfigurationError, DaemonError
from daemon.terminal import say, warn
from daemon.workbench.train_settings import Overrides, load_settings
from dicom_io.errors import DicomIOError
from models.architectures.names import ARCHITECTURE_NAMES
from models.cards import find
from models.errors import ModelError
from reports.errors import ReportError
from reports.identity import software_version

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _say_version(asked: bool) -> None:  # noqa: FBT001  Typer gives it by place
    if asked:
        say(f"porta {software_version()}")
        raise typer.Exit


@app.callback()
def porta(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """Porta Hepatis: liver CT in from the PACS, SEG and SR back. For research use, not a diagnosis."""


def man() -> None:
    """Print the manual page: `porta man | man -l -`."""
    from daemon.commands.manual import manual_page

    sys.stdout.write(manual_page(app, software_version()))


def main() -> None:
    """Entry of the `porta` command."""
    with one_line_errors():
        app()


def run(config: ConfigOption = None) -> None:
    """Run the service in the foreground, until SIGTERM or Ctrl-C; SIGHUP has it read its configuration again."""
    from daemon import service

    settings = require_models_apart(configured(config))
    try:
        service.run(settings, lambda: read(config), require_models_apart)
    except OSError as error:
        raise ConfigurationError([service.port_fault(settings, error)]) from error
    # Python would wait for a delivery whose peer is silent. The ledger has it: it is due again at the next start.
    sys.stderr.flush()
    os._exit(0)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the results are verified.")] = False,
    directory: Annotated[Path, typer.Option("--dir", help="The folder for all files.")] = Path("porta-demo"),
) -> None:
    """Start Porta with a PACS beside it, send a phantom study, and compare the results with the truth."""
    from daemon.commands.demo import run_demo

    raise typer.Exit(run_demo(directory, once=once))


def check(
    store: Annotated[bool, typer.Option("--store", help="Store a test object at each destination, too.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Look at all that must be right: configuration, models, ledger, storage, disk, port, memory, rules, each peer."""
    from daemon.administration.checkup import print_checks
    from daemon.administration.storing import store_test_object

    settings = require_models(configured(config))
    if not as_json:
        print_verified(settings)
    raise typer.Exit(0 if print_checks(settings, as_json=as_json, storing=store_test_object if store else None) else 1)


def submit(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, folders or zips.")], config: ConfigOption = None
) -> None:
    """Hand files to the service as if they had been received; it need not be running."""
    from daemon.administration.submission import submit_paths

    refused = submit_paths(configured(config), paths)
    for line in refused:
        warn(line)
    raise typer.Exit(2 if refused else 0)


def segment(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A DICOM folder, a zip, or a NIfTI.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the results.")],
    model: Annotated[str, typer.Option(help="One of `porta models`, or a card (.json).")] = "resnet50",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    prefer: PreferOption = Prefer.PORTAL,
    modality: Annotated[Modality | None, typer.Option(help="Modality of a NIfTI; CT if left out.")] = None,
) -> None:
    """Segment one study without a service: SEG, SR, labels, findings and overlays."""
    from daemon.commands.standalone import segment_input

    log.configure("warning", "auto")
    model = findable(model)
    find(model)
    segment_input(
        source,
        out,
        model=model,
        device=device,
        threads=threads,
        prefer=prefer.value,
        modality=modality and modality.value,
    )


def explain(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A DICOM folder, a zip, or a NIfTI.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for pictures and maps.")],
    model: Annotated[str, typer.Option(help="One of `porta models`, or a card (.json).")] = "resnet50",
    lesion: Annotated[int | None, typer.Option(min=1, help="The number of one lesion; else all.")] = None,
    method: Annotated[Method, typer.Option(help="Grad-CAM takes a second a lesion, occlusion up to a minute.")] = (
        Method.BOTH
    ),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    prefer: PreferOption = Prefer.PORTAL,
) -> None:
    """Show what the network looked at when it drew each lesion: pictures, and maps on the source's grid."""
    from daemon.commands.explanations import WAYS, explain_input

    log.configure("warning", "auto")
    model = findable(model)
    find(model)
    explain_input(
        source,
        out,
        model=model,
        device=device,
        threads=threads,
        prefer=prefer.value,
        lesion=lesion,
        methods=tuple(WAYS) if method is Method.BOTH else (method.value,),
    )


def series(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A DICOM folder, a zip, or a file.")],
    as_json: JsonOption = False,
    prefer: PreferOption = Prefer.PORTAL,
    pixels: Annotated[bool, typer.Option("--pixels", help="Decode the pixels too.")] = False,
) -> None:
    """Judge each series: show its volumes and their warnings, or why it cannot be segmented."""
    from daemon.commands.verdicts import print_verdicts

    log.configure("error", "auto")
    print_verdicts(source, as_json=as_json, prefer=prefer.value, pixels=pixels)


def quarantine(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List what was not taken in: why, of whom, how often, under which UID."""
    from daemon.commands.status import print_quarantine

    print_quarantine(configured(config), as_json=as_json)


def verify(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Look at every file that was kept, and show what is damaged, missing or of no row; a service may run meanwhile."""
    from daemon.commands.verification import print_verification

    raise typer.Exit(0 if print_verification(configured(config), as_json=as_json) else 1)


def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder, outside the storage root.")],
    config: ConfigOption = None,
) -> None:
    """Back up the ledger and every file that it names; a service may run meanwhile."""
    from daemon.commands.backups import make_backup

    raise typer.Exit(0 if make_backup(configured(config), directory) else 1)


def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `porta backup` made.")],
    config: ConfigOption = None,
) -> None:
    """Fill an empty storage root and an empty ledger with a backup, and look at every file of it."""
    from daemon.commands.backups import restore_backup

    raise typer.Exit(0 if restore_backup(configured(config), directory) else 1)


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing: list what would be removed, and why.")] = (
        False
    ),
    config: ConfigOption = None,
) -> None:
    """Remove the files of what is done, as `retention` of the configuration says; the service does so by itself."""
    from daemon.administration.removals import print_retention

    print_retention(configured(config), dry_run=dry_run)


def upgrade(
    only_check: Annotated[
        bool, typer.Option("--check", help="Change nothing: try it on a copy; the service may run meanwhile.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Bring the tables of the ledger to this version, as the next start would; the service must not be running."""
    from daemon.commands.upgrades import check_upgrade, upgrade_ledger

    (check_upgrade if only_check else upgrade_ledger)(configured(config))


def ledger(action: Annotated[LedgerAction, typer.Argument()], config: ConfigOption = None) -> None:
    """Make a ledger that was lost anew from spool and outbox; the service must not be running."""
    from daemon.commands.rebuilding import rebuild_ledger

    left_out = rebuild_ledger(configured(config))
    for line in left_out:
        warn(line)
    raise typer.Exit(1 if left_out else 0)


def job(
    job_id: Annotated[int, typer.Argument(metavar="ID")],
    as_json: Annotated[bool, typer.Option("--json", help="Has no effect: the output is always JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show one job: its state, its deliveries, the results of its shadow models, its history."""
    from daemon.commands.status import print_job

    print_job(configured(config), job_id)


def calibrate(
    evaluations: Annotated[list[Path], typer.Argument(help="evaluation.json files, of cases not trained on.")],
    weights: Annotated[str, typer.Option(help="The weights: a name of `porta models`, or a card (.json).")],
) -> None:
    """Fit how probable it is that a lesion of a given confidence is real; write it into the card of the weights."""
    from daemon.workbench.calibrator import calibrate as write_calibration

    path, fitted = write_calibration(findable(weights), evaluations)
    counts = f"{fitted.lesions} lesions of {fitted.cases} patients, {fitted.real} real"
    scores = f"Brier score {fitted.brier_before:.3f}, calibrated {fitted.brier_after:.3f} (each patient left out)"
    say(f"{path}: {counts}; {scores}")


def evaluate(
    weights: Annotated[
        list[str], typer.Option(help="One of `porta models`, or the card (.json) of your own; may be repeated.")
    ],
    data: Annotated[
        list[Path] | None, typer.Option(help="A folder of cases with their truth; may be repeated.")
    ] = None,
    phantoms: Annotated[
        int, typer.Option(min=0, max=1000, help="Number of phantoms to measure on; no weights were trained on them.")
    ] = 0,
    split: Annotated[Path | None, typer.Option(help="A split.json; only the cases of one part are measured.")] = None,
    part: Annotated[Part, typer.Option(help="The part of the split.")] = Part.TEST,
    tumours_not_drawn: Annotated[
        list[str] | None, typer.Option(help="A case or collection whose liver label hides tumours; may be repeated.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The folder for the results of all models; the same command continues.")
    ] = Path("evaluation"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Measure models on cases with their truth: evaluation.json, tables, charts and the worst cases as pictures."""
    require_train_extra("sklearn", "seaborn")
    from daemon.workbench.evaluator import Request, evaluate_models

    log.configure("warning", "auto")
    request = Request(
        weights=tuple(map(findable, weights)),
        folders=tuple(data or ()),
        phantoms=phantoms,
        split=split,
        part=part.value,
        tumours_not_drawn=tuple(tumours_not_drawn or ()),
        device=device,
        threads=threads,
        command=shlex.join(["porta", *sys.argv[1:]]),
    )
    evaluate_models(request, out)


def phantom(
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    seed: Annotated[int, typer.Option(help="Seeds from 1 000 000 on are never used for training.")] = 1_000_014,
    count: Annotated[int, typer.Option(help="Number of phantoms: this seed and the following ones.")] = 1,
    form: Annotated[str, typer.Option("--format", help="dicom, or nifti: a pair laid out as LiTS.")] = "dicom",
    modality: Annotated[str, typer.Option(help="CT or MR.")] = "CT",
    phase: Annotated[str | None, typer.Option(help="Phase of a CT: native, arterial, portal, delayed.")] = None,
    weighting: Annotated[str | None, typer.Option(help="Weighting of an MR: T1 (the default) or T2.")] = None,
    slices: Annotated[int, typer.Option()] = 100,
    rows: Annotated[int, typer.Option()] = 256,
    columns: Annotated[int, typer.Option()] = 256,
    spacing: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="SLICE ROW COLUMN", show_default=False, help="Distances in mm: 2.5 1.5 1.5 if left out."),
    ] = (2.5, 1.5, 1.5),
    thickness: Annotated[float | None, typer.Option(help="Of a slice, in mm; else the distance of slices.")] = None,
    kernel: Annotated[str, typer.Option(help="soft, standard or sharp.")] = "standard",
    noise: Annotated[float, typer.Option(help="Standard deviation of the noise, HU or signal.")] = 12.0,
    lesions: Annotated[int | None, typer.Option(help="Number of lesions; else the seed draws it.")] = None,
    lesion_size: Annotated[
        tuple[float, float],
        typer.Option(metavar="LEAST MOST", show_default=False, help="Diameters of lesions in mm: 8 50 if left out."),
    ] = (8.0, 50.0),
    lesion_place: Annotated[str, typer.Option(help="Place of lesions: apart, capsule or merged.")] = "apart",
) -> None:
    """Write phantoms with their truth: OUT/dicom with OUT/labels.nii.gz and OUT/truth.json, or NIfTI pairs."""
    from daemon.commands.phantoms import PhantomFormat, PhantomOrder, contrast_of, parse_choice, write_phantoms
    from models.phantom import Kernel, Placement

    order = PhantomOrder(
        shape=(slices, rows, columns),
        spacing_mm=spacing,
        lesions=lesions,
        lesion_axes_mm=(lesion_size[0] / 2, lesion_size[1] / 2),
        placement=parse_choice(Placement, lesion_place, "--lesion-place"),
        contrast=contrast_of(modality, phase, weighting),
        noise=noise,
        kernel=parse_choice(Kernel, kernel, "--kernel"),
        thickness_mm=thickness,
    )
    found = write_phantoms(out, order, seed=seed, count=count, how=parse_choice(PhantomFormat, form, "--format"))
    phantoms = "1 phantom" if count == 1 else f"{count} phantoms"
    say(f"{phantoms} of {slices} slices with {found} lesions in {out}")


@takes_keys(
    "data.folders",
    "network.model",
    "data.phantoms",
    "training.steps",
    "training.batch",
    "training.pixels",
    "training.epoch",
    "training.schedule",
    "network.backbone_weights",
    "network.initial",
    *HELD_OUT,
    "data.tumours_not_drawn",
    "data.cache",
    "training.seed",
    *MACHINE,
)
def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the run; the same command continues it.")],
    overrides: Overrides,
    config: TrainConfigOption = None,
) -> None:
    """Train a network on cases with their truth; weights, card, curves and all that made them lie in OUT.

    Several GPUs: torchrun --nproc-per-node N "$(which porta)" train …
    """
    require_train_extra("monai")
    log.configure("warning", "auto")
    if initial := overrides["network", "initial"]:
        overrides = {**overrides, ("network", "initial"): Path(findable(str(initial)))}
    settings = load_settings(config, overrides)
    from daemon.workbench.trainer import train_model

    train_model(settings, out, command=shlex.join(["porta", *sys.argv[1:]]))


@takes_keys(
    "data.folders",
    "data.phantoms",
    "training.steps",
    "training.batch",
    "training.pixels",
    "training.epoch",
    "network.backbone_weights",
    *HELD_OUT,
    "data.tumours_not_drawn",
    "data.cache",
    "training.seed",
    *MACHINE,
)
def compare(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for all files; the same command continues.")],
    overrides: Overrides,
    models: Annotated[str, typer.Option(help=f"all, or some of {','.join(ARCHITECTURE_NAMES)}.")] = "all",
    config: TrainConfigOption = None,
    test_phantoms: Annotated[int, typer.Option(min=0, help="Number of other phantoms to measure on as well.")] = 0,
    runs: Annotated[
        list[Path] | None, typer.Option(help="Compare finished runs of porta train instead; may be repeated.")
    ] = None,
    pictures: Annotated[Pictures, typer.Option(help="The cases that the page may show as the worst.")] = Pictures.ALL,
    only_page: Annotated[bool, typer.Option("--only-page", help="Draw the page of OUT again.")] = False,
) -> None:
    """Train architectures alike, measure them on the cases held out, and write one page: OUT/page/index.html."""
    require_train_extra("monai", "sklearn", "seaborn")
    log.configure("warning", "auto")
    settings = load_settings(config, overrides)
    from daemon.workbench.comparison import Comparison, compare_models
    from daemon.workbench.comparison_page import draw_page

    if only_page:
        page = draw_page(out, pictures)
    else:
        asked = Comparison(
            settings=settings,
            models=ARCHITECTURE_NAMES if models == "all" else tuple(name.strip() for name in models.split(",")),
            command=shlex.join(["porta", *sys.argv[1:]]),
            test_phantoms=test_phantoms,
            runs=tuple(runs or ()),
            pictures=pictures,
        )
        page = compare_models(asked, out)
    say(str(page))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Say what a person can mend in one line for each fault; the rest is a fault of ours and says so in the log."""
    try:
        yield
    except (DaemonError, DicomIOError, ModelError, ReportError) as error:
        for line in str(error).splitlines():
            warn(f"porta: {line}")
        sys.exit(error.exit_code)


PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Try it": (demo, series, segment, explain),
    "Set it up": (init, check, rules, man),
    "Run it": (run, reload, submit, study, jobs, job, quarantine, verify),
    "Mend it": (retry, rerun, send, cancel, backup, restore, retention, upgrade, ledger),
    "Models": (phantom, train, model_commands.finetune, evaluate, calibrate, compare),
    "Console": (),
}
"""The commands as the help shows them, in the order of a site's life; `models` ends its panel."""

for _panel, _commands in PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(model_commands.app, name="models", rich_help_panel="Models")
app.add_typer(feedback_commands.app, name="feedback", rich_help_panel="Models")
app.add_typer(console_commands.app, name="console", rich_help_panel="Console")


if __name__ == "__main__":
    main()
