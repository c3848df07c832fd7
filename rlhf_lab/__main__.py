"""The command line: `python -m rlhf_lab train`, `… sweep`, `… repair` and `… doctor`."""

import argparse
import contextlib
import dataclasses
import signal
import sys
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from rlhf_lab import report, runs
from rlhf_lab.command_line import Parser, list_of, value_type
from rlhf_lab.config import PPOConfig
from rlhf_lab.doctor import diagnose
from rlhf_lab.doctor import report as doctor_report
from rlhf_lab.grids.results import read_outcomes
from rlhf_lab.grids.sweep import Failure, grid, sweep
from rlhf_lab.trainer import NonFiniteError, Trainer
from rlhf_lab.translation import tr
from rlhf_lab.world import World, load_world


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 1 if it failed, 2 for bad input, 130 for Ctrl-C."""
    with _noticed_interrupts() as pressed:
        try:
            arguments = _parser().parse_args(argv)
            return int(arguments.command(arguments))
        except KeyboardInterrupt:  # before or after training, where nothing can be lost
            return 130
        except NonFiniteError as error:
            return _complain(error, 1)
        except (ValueError, OSError, RuntimeError, MemoryError, OverflowError) as error:
            # An interrupt inside torch may come out of it as an error of another kind.
            return 130 if pressed else _complain(error, 2)


@contextlib.contextmanager
def _noticed_interrupts() -> Iterator[list[int]]:
    """A list to which each Ctrl-C adds an entry, besides being raised as usual."""
    pressed: list[int] = []

    def notice(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.signal(signal.SIGINT, notice)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def _complain(error: BaseException, status: int) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in text):
        text = tr("this machine has not enough memory for these sizes ({x}…)", x=text[:80])
    print(f"rlhf_lab: {text}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m rlhf_lab", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser(
        "train", help="train a policy with PPO in review world", allow_abbrev=False
    )
    train.set_defaults(command=_train)
    train.add_argument("--out", type=Path, help="run folder (default: runs/eta…_beta…_seed…)")
    train.add_argument(
        "--resume", type=Path, metavar="FOLDER", help="continue a run; only --iterations, --eta, "
        "--beta and --device may be given with it, and act from here on",
    )  # fmt: skip
    _add_settings(train, but=())
    many = commands.add_parser(
        "sweep", help="train a grid of policies, on all cores or on a GPU", allow_abbrev=False
    )
    many.set_defaults(command=_sweep)
    lists = (("etas", float, "0,0.1,0.3,1"), ("betas", float, "0"), ("seeds", int, "0"))
    for name, kind, default in lists:
        many.add_argument(
            f"--{name}", type=list_of(kind), default=default, metavar="A,B,…",
            help="numbers with commas between them (default: %(default)s)",
        )  # fmt: skip
    many.add_argument(
        "--out", type=Path, default=Path("runs/sweep.csv"), help="results, one line per run; "
        "what it holds is not run again (default: %(default)s)",
    )  # fmt: skip
    many.add_argument(
        "--together", type=int, default=1, metavar="N", help="train N runs as one batch: for a "
        "GPU, for small batches; equal up to rounding (default: %(default)s)",
    )  # fmt: skip
    _add_settings(many, but=("eta", "beta", "seed"))
    repair = commands.add_parser(
        "repair", help="take a damaged run back to its last whole checkpoint; deletes nothing"
    )
    repair.set_defaults(command=_repair)
    repair.add_argument("folder", type=Path, metavar="FOLDER", help="of the run")
    doctor = commands.add_parser("doctor", help="check whether everything fits together")
    doctor.set_defaults(command=_doctor)
    return parser


def _add_settings(parser: argparse.ArgumentParser, but: tuple[str, ...]) -> None:
    """An option for every setting of a run."""
    types = typing.get_type_hints(PPOConfig)
    for field in dataclasses.fields(PPOConfig):
        if field.name not in but:
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=value_type(types[field.name]),
                metavar=field.name.upper(),
                help=tr(field.metadata["help"]) + tr(" (default: {x})", x=field.default),
            )


def _settings(arguments: argparse.Namespace) -> dict[str, typing.Any]:
    """The settings that were given; the others keep their defaults."""
    names = [field.name for field in dataclasses.fields(PPOConfig)]
    return {name: value for name in names if (value := getattr(arguments, name, None)) is not None}


def _train(arguments: argparse.Namespace) -> int:
    given = _settings(arguments)
    world = load_world()
    if arguments.resume:
        fixed = sorted(set(given) - {"iterations", "eta", "beta", "device"})
        if fixed or arguments.out:
            name = fixed[0].replace("_", "-") if fixed else "out"
            raise ValueError(f"--{name} cannot change in mid-run; leave it out, or start a new run")
        folder = arguments.resume
        trainer = runs.resume(
            folder, world, iterations=given.get("iterations"), device=given.get("device")
        )
        trainer.eta, trainer.beta = given.get("eta", trainer.eta), given.get("beta", trainer.beta)
    else:
        config = PPOConfig(**given)
        name = f"eta{config.eta:g}_beta{config.beta:g}_seed{config.seed}"
        folder = arguments.out or Path("runs") / name
        trainer = _begun(folder, world, config)
    status = _watch(folder, trainer)
    done = tr("{n} iterations in {folder}", n=trainer.iteration, folder=folder)
    print(f"\n{done}\n")
    print(report.compare(world, trainer.policy, trainer.eta, trainer.beta))
    return status


def _begun(folder: Path, world: World, config: PPOConfig) -> Trainer:
    """The trainer of a new run, or of one with these very settings that was broken off."""
    if not (folder / "config.json").exists():
        trainer = Trainer(world, config)
        with contextlib.suppress(NonFiniteError):  # which the run itself will report
            Trainer(world, config).step()  # settings that cannot work shall leave no folder behind
        runs.create(folder, trainer)
        return trainer
    trainer = runs.resume(folder, world)
    if trainer.config != config or trainer.iteration == config.iterations:
        raise ValueError(
            f"{folder} holds a run already; continue that one with `--resume {folder}`, or name "
            "another folder with --out"
        )
    text = "{folder} holds the beginning of this run: going on after iteration {n}"
    print(tr(text, folder=folder, n=trainer.iteration))
    return trainer


def _watch(folder: Path, trainer: Trainer) -> int:
    """Train with a progress bar and the sentences as they change; 130 if interrupted."""
    shown = -10
    total = trainer.config.iterations
    with (
        contextlib.closing(runs.run(folder, trainer)) as steps,
        tqdm(steps, total=total, initial=trainer.iteration, unit="it") as bar,
    ):
        try:
            for stats in bar:
                bar.set_postfix_str(
                    tr("score {score:.2f}, KL {kl:.2f}, {distinct} distinct", **stats._asdict())
                )
                due = stats.iteration >= shown + 10 or stats.iteration == total
                if due and trainer.rollout:
                    shown = stats.iteration
                    bar.write(f"{stats.iteration:5d}  {report.said(trainer.rollout)}")
        except KeyboardInterrupt:
            text = (
                "stopped; nothing finished is lost: go on with "
                "`python -m rlhf_lab train --resume {folder}`"
            )
            bar.write(tr(text, folder=folder))
            return 130
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    configs = grid(arguments.etas, arguments.betas, arguments.seeds, **_settings(arguments))
    done = len({outcome.config for outcome in read_outcomes(arguments.out)} & set(configs))
    failures = 0
    with (
        contextlib.closing(sweep(configs, arguments.out, together=arguments.together)) as results,
        tqdm(results, total=len(configs), initial=done, unit="run") as bar,
    ):
        try:
            for result in bar:
                config = result.config
                what = f"η {config.eta:<5g} β {config.beta:<5g} seed {config.seed}"
                if isinstance(result, Failure):
                    failures += 1
                    bar.write(tr("{what}  failed: {error}", what=what, error=result.error))
                else:
                    bar.write(
                        f"{what}  score {result.score:5.2f}  gold {result.gold:5.2f}  "
                        f"KL {result.kl:5.2f}  H {result.entropy:5.2f}  regret {result.regret:.2f}"
                    )
        except KeyboardInterrupt:
            bar.write(tr("stopped; the same command goes on where this ended"))
            return 130
    finished = len(read_outcomes(arguments.out))
    print(tr("{n} runs in {file}", n=finished, file=arguments.out))
    return int(failures > 0)


def _repair(arguments: argparse.Namespace) -> int:
    print("\n".join(runs.repair(arguments.folder)))
    return 0


def _doctor(_: argparse.Namespace) -> int:
    findings = diagnose()
    print(doctor_report(findings))
    return int(any(finding.status == "problem" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
