"""The command line: `python -m rlhf_lab train` and `python -m rlhf_lab doctor`."""

import argparse
import contextlib
import dataclasses
import sys
import typing
from pathlib import Path

from tqdm import tqdm

from rlhf_lab import report, runs
from rlhf_lab.config import PPOConfig
from rlhf_lab.doctor import diagnose
from rlhf_lab.doctor import report as doctor_report
from rlhf_lab.train import NonFiniteError, Trainer
from rlhf_lab.world import load_world


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 1 if it failed, 2 for bad input, 130 for Ctrl-C."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except ValueError as error:
        print(f"rlhf_lab: {error}", file=sys.stderr)
        return 2
    except NonFiniteError as error:
        print(f"rlhf_lab: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rlhf_lab", description=__doc__)
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
    types = typing.get_type_hints(PPOConfig)
    for field in dataclasses.fields(PPOConfig):
        train.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=_value_type(types[field.name]),
            metavar=field.name.upper(),
            help=f"{field.metadata['help']} (default: {field.default})",
        )
    doctor = commands.add_parser("doctor", help="check whether everything fits together")
    doctor.set_defaults(command=_doctor)
    return parser


def _value_type(annotation: object) -> type:
    """The plain type to parse an option with: float for `float | None`, str for a `Literal`."""
    plain = [t for t in (int, float, str) if t is annotation or t in typing.get_args(annotation)]
    return plain[0] if plain else str


def _train(arguments: argparse.Namespace) -> int:
    given = {
        field.name: value
        for field in dataclasses.fields(PPOConfig)
        if (value := getattr(arguments, field.name)) is not None
    }
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
        trainer = Trainer(world, config)
        folder = runs.create(arguments.out or Path("runs") / name, trainer)
    status = _watch(folder, trainer)
    print(f"\n{trainer.iteration} iterations in {folder}\n")
    print(report.compare(world, trainer.policy, trainer.eta, trainer.beta))
    return status


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
                    f"score {stats.score:.2f}, KL {stats.kl:.2f}, {stats.distinct} distinct"
                )
                due = stats.iteration >= shown + 10 or stats.iteration == total
                if due and trainer.rollout:
                    shown = stats.iteration
                    bar.write(f"{stats.iteration:5d}  {report.said(trainer.rollout)}")
        except KeyboardInterrupt:
            bar.write(
                f"stopped; nothing finished is lost: go on with "
                f"`python -m rlhf_lab train --resume {folder}`"
            )
            return 130
    return 0


def _doctor(_: argparse.Namespace) -> int:
    findings = diagnose()
    print(doctor_report(findings))
    return int(any(finding.status == "problem" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
