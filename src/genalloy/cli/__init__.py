"""The command line. It maps names to values and draws progress; everything it does can be done in Python too.

Whatever needs torch is imported inside the commands, so that help and refusals are quick.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import genalloy
from genalloy.cli.calling import BoundedOption, Usage, report_errors
from genalloy.core.bounds import listed

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Deep generative models of every family, and their combinations, compared honestly.

    Start with `genalloy compare digits`, or on your own data: `genalloy fit vae table.csv --out runs/vae`, then
    `genalloy sample runs/vae -n 100 --out samples.csv`. DATA is a toy's name (8gaussians, moons, ...), `digits`, or a path:
    .npy .npz .csv .parquet .txt, MNIST-style .gz, or a folder of images.""",
)

Data = Annotated[
    str,
    typer.Argument(
        help="A toy's name, `digits`, `sprites`, `waves`, a published set, or a path: .npy .npz .csv .tsv .parquet .txt .wav .gz,"
        " or a folder of images or .wav. Text and sequences: DATA@window=N, DATA@window=N,bpe=TOKENS."
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, as written by `genalloy fit --out`.")]
Seed = Annotated[int, typer.Option(help="Seed of the split, the initial weights and everything random.")]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=KIND,...", help="Of a table: read these columns as real, integer, category or date, or drop them."
    ),
]
Threads = Annotated[int, typer.Option(help="CPU threads; more than one rarely helps small models.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps; auto takes a CUDA GPU where there is one.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"genalloy {genalloy.__version__}")
        raise typer.Exit


@app.callback()
def genalloy_(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command(cls=BoundedOption)
def recipes(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False) -> None:
    """List every recipe: family, density label, tasks, reference and settings."""
    from genalloy.recipes.registry import all_recipes

    known = all_recipes().values()
    if as_json:
        print(json.dumps([_recipe_record(r) for r in known], indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title=f"{len(known)} recipes: density label on reals / on integers")
    for heading in ("recipe", "family", "density"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it is")
    for r in known:
        table.add_row(r.name, r.family, f"{r.kind.value} / {r.grid_kind.value}", f"{r.summary} [dim]{r.reference}[/dim]")
    Console().print(table)


def _recipe_record(recipe: Any) -> dict[str, Any]:
    fields = {k: getattr(recipe, k) for k in ("name", "family", "summary", "reference")}
    labels = {"density": recipe.kind.value, "density_on_integers": recipe.grid_kind.value}
    return {**fields, **labels, "tasks": list(recipe.tasks), "settings": recipe.settings()}


@app.command(cls=BoundedOption)
def fit(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A name that `genalloy recipes` lists.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE-DATA by default.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a recipe's setting.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of labels, taken out of the observations.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; the recipe's own by default.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget, turned into steps once after a timed warm-up.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop early after so many validations without improvement.")] = None,
    columns: Columns = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows in each part of the data.")] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Start from an earlier run's weights.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run to the same numbers.")] = False,
    seed: Seed = 0,
    split_seed: Annotated[int | None, typer.Option(help="Another seed for the split of the data alone.")] = None,
    threads: Threads = 1,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="32-true or bf16-mixed (Lightning Fabric's names).")] = "32-true",
    processes: Annotated[int, typer.Option(help="Processes that share each batch.")] = 1,
    dry_run: Annotated[bool, typer.Option(help="Print parameters, memory and expected minutes; train nothing.")] = False,
) -> None:
    """Train a recipe on data. Ctrl-C saves; `--resume` continues to the same numbers."""
    from genalloy.runs.settings import RunSettings

    _not_both({"--resume": resume, "--from": from_ is not None})
    _not_both({"--resume": resume, "--dry-run": dry_run})
    _not_both({"--steps": steps is not None, "--minutes": minutes is not None})
    folder = out or Path("runs") / f"{recipe}-{Path(data).stem}"
    settings = RunSettings(
        recipe, data, label, limit, _settings(recipe, set_ or []), steps, minutes, seed, threads, device, precision, processes,
        patience, split=split_seed, columns=columns,
    )  # fmt: skip
    _use(threads, device)
    if dry_run:
        _print_cost(settings)
        return
    from genalloy.runs.terminal import train_in_terminal

    train_in_terminal(settings, folder, resume=resume, earlier=from_, given=_given(context))


def _given(context: typer.Context) -> set[str]:
    """Names of the run's settings that were written on the command line."""
    names = {"set_": "settings", "split_seed": "split"}
    written = (name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE")
    return {names.get(name, name) for name in written}


def _not_both(given: dict[str, bool]) -> None:
    """Raises Usage where all of these options are given."""
    if all(given.values()):
        raise Usage(f"found {' and '.join(given)}, expected one of them; leave out either")


def _settings(recipe: str, pairs: list[str]) -> dict[str, Any]:
    """`--set name=value`, the value read as its setting's kind. Raises ValueError on a malformed, unknown or repeated pair."""
    from genalloy.recipes.registry import find

    known, result = find(recipe), dict[str, Any]()
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--set {pair!r} has no '='; expected NAME=VALUE with NAME one of {', '.join(known.settings())}")
        if name in result:
            raise ValueError(f"--set {name} was given twice, {result[name]!r} and {text!r}; leave out either")
        result[name] = known.read(name, text)
    return known.checked(result)


def _print_cost(settings: Any) -> None:
    from genalloy.runs.create import estimate

    cost = estimate(settings)
    print(f"parameters        {cost.parameters:,}")
    print(f"steps             {cost.steps:,}")
    print(f"memory            about {cost.megabytes:.0f} MiB beside torch itself")
    print(f"expected minutes  {cost.minutes:.1f} on this machine, validation not counted")


def _use(threads: int, device: str = "cpu") -> Any:
    """Set the number of threads; the device of that name. Raises ValueError where there is none."""
    import torch

    from genalloy.training.devices import resolve_device

    torch.set_num_threads(threads)
    return resolve_device(device)


@app.command(cls=BoundedOption)
def sample(
    run: RunFolder,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 64,
    out: Annotated[
        Path | None, typer.Option(help="x.png (a picture), .npz, .npy, .csv, .parquet, .txt or .wav; samples.png by default.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Text: how every sample begins.")] = None,
    complete: Annotated[Path | None, typer.Option(help="Rows in an .npy file, of which the known entries are kept.")] = None,
    known: Annotated[Path | None, typer.Option(help="Which of them are known, an .npy file; all but NaN by default.")] = None,
    completion: Annotated[str, typer.Option(help="How the rest is drawn: direct, enumerate (exact) or resample.")] = "direct",
    temperature: Annotated[float | None, typer.Option(help="p^(1/T) of each factor; changes the law.")] = None,
    top_k: Annotated[int | None, typer.Option(help="The k most probable values of each factor; changes the law.")] = None,
    top_p: Annotated[float | None, typer.Option(help="The most probable values up to this mass; changes the law.")] = None,
    given_: Annotated[
        list[str] | None, typer.Option("--given", help="label=3: what a conditional model is given; label=cat,dog for several.")
    ] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Draw samples from a finished run, in the form of the user's own data; or complete a text, or given rows."""
    from genalloy.runs import completion as completing
    from genalloy.runs.create import RunData, trained_model
    from genalloy.runs.export import write_drawn

    if known is not None and complete is None:
        raise Usage("found --known without --complete, expected both: the rows and which of their entries are known")
    _not_both({"--prompt": prompt is not None, "--complete": complete is not None})
    place = _use(threads, device)
    facts, filters = RunData.read_existing(run), completing.filters_of(temperature, top_k, top_p)
    model = completing.under(trained_model(run), filters).to(place)
    given = completing.beginning(facts, prompt) if prompt is not None else None
    given = completing.given(facts, complete, known) if complete is not None else given
    scheme = completing.scheme_of(completion, facts.space.levels)
    words = write_drawn(model, facts, given, n, out, seed, scheme, given_ or [])
    print(f"{words}, {completing.law(filters)}" if filters else words)


@app.command(cls=BoundedOption)
def score(
    run: RunFolder,
    data: Data,
    out: Annotated[Path, typer.Option(help="Where to write one row per observation.")] = Path("scores.csv"),
    samples: Annotated[int, typer.Option(help="Importance samples where the density is a proper bound.")] = 100,
    label: Annotated[str | None, typer.Option(help="Column of labels: given to a model that takes one, else left out.")] = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Log-density of each row with its kind, and its outlier rank (1 = least likely); log p(x | label) beside it."""
    from genalloy.runs.export import write_scores

    print(write_scores(run, data, label, out, samples, _use(threads, device)))


@app.command(cls=BoundedOption)
def encode(
    run: RunFolder,
    data: Data,
    out: Annotated[Path, typer.Option(help="codes.npz or codes.csv.")] = Path("codes.npz"),
    label: Annotated[str | None, typer.Option(help="Column of labels: given to a model that takes one, else left out.")] = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Codes of each row: posterior means, or a flow's latents."""
    from genalloy.runs.export import write_codes

    print(f"wrote {write_codes(run, data, label, out, _use(threads, device))}")


@app.command(cls=BoundedOption)
def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="Data to evaluate on; the run's own test part by default.")] = None,
    samples: Annotated[int, typer.Option(help="Samples for the generation panel.")] = 1000,
    panels: Annotated[str | None, typer.Option(help="Comma-separated panels; all by default.")] = None,
    importance: Annotated[int, typer.Option(help="Importance samples of the tightest bound.")] = 64,
    outliers: Annotated[str | None, typer.Option(help="Comma-separated data of the same space to tell apart.")] = None,
    stride: Annotated[int | None, typer.Option(help="Text: also by windows that overlap, one every so many characters.")] = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Density, generation, representation, outliers and cost of a finished run, each number with its label."""
    from rich.console import Console

    from genalloy.studies.evaluate import evaluate_run, print_row
    from genalloy.studies.panels import PANELS, EvaluationSettings

    names = tuple(PANELS) if panels is None else listed("--panels", panels, PANELS)
    foreign = () if outliers is None else listed("--outliers", outliers)
    place = _use(threads, device)
    with Console(stderr=True).status("loading") as status:
        row = evaluate_run(run, data, EvaluationSettings(names, samples, importance, foreign), status.update, stride, place)
    print_row(row)


@app.command(cls=BoundedOption)
def compare(
    data: Data,
    recipes: Annotated[
        str | None, typer.Option(help="Comma-separated names, or all, made:conditional=true for settings; default: the usual.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Training minutes for each recipe, at most.")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; comparisons/DATA by default.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of labels.")] = None,
    columns: Columns = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows in each part of the data.")] = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(help="Training seeds a row, from --seed on; claims of quality need three.")] = 1,
    jobs: Annotated[int, typer.Option(help="Recipes trained at once, one thread each; 0 takes all cores.")] = 0,
    device: Device = "auto",
) -> None:
    """Train recipes side by side and write one page. Finished rows are kept when interrupted; run again to continue."""
    from genalloy.studies.compare import ComparisonSettings, run_comparison

    names = () if recipes is None else listed("--recipes", recipes)
    folder = out or Path("comparisons") / Path(data).stem
    _use(1, device)
    page = run_comparison(
        ComparisonSettings(data, names, minutes, folder, label, limit, seed, jobs, _command(), seeds, device, columns)
    )
    print(f"the page: {page}")


Workspace = Annotated[Path, typer.Option(help="Where runs and tables are kept; runs are shared and continued.")]


@app.command(cls=BoundedOption)
def reproduce(
    name: Annotated[str | None, typer.Argument(help="An experiment or a group that --list shows.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the experiments, their minutes and last verdicts.")] = False,
    budget: Annotated[str, typer.Option(help="quick or full.")] = "quick",
    seeds: Annotated[int, typer.Option(help="Training seeds, from 0; a claim needs three.")] = 3,
    workspace: Workspace = Path("reproductions"),
    results: Annotated[Path, typer.Option(help="Folder of the kept results, one JSON file an experiment.")] = Path("results"),
    jobs: Annotated[int, typer.Option(help="Runs at once, one thread each; 0 takes all cores.")] = 0,
    document: Annotated[Path | None, typer.Option(help="Write the kept results to this Markdown file, with pictures.")] = None,
) -> None:
    """Run a published claim at a budget and say whether it holds, with the published values beside ours."""
    from genalloy.experiments.registry import find_experiments
    from genalloy.studies.documents import print_group, print_list, write_results
    from genalloy.studies.reproduce import RunPlan
    from genalloy.studies.reproduce import reproduce as run_experiment

    if document is not None:
        print(f"wrote {write_results(results, document)}")
    if list_ or (name is None and document is None):
        print_list(results)
    if name is None:
        return
    experiments = find_experiments(name)
    for experiment in experiments:
        # the command that anybody can repeat: where runs and results are kept is this user's own affair
        command = f"genalloy reproduce {experiment.name} --budget {budget} --seeds {seeds}"
        page, verdict = run_experiment(experiment, RunPlan(budget, seeds, workspace, jobs, command), results)
        print(f"{experiment.name}: {verdict.outcome.value if verdict else 'no claim'}. {verdict.words if verdict else ''}")
        print(f"the page: {page}")
    if len(experiments) > 1:
        print_group(results, experiments)


@app.command(cls=BoundedOption)
def sweep(
    recipe: Annotated[str, typer.Argument(help="A name that `genalloy recipes` lists.")],
    data: Data,
    over: Annotated[list[str], typer.Option(help="NAME=A,B,C of a recipe's setting; several give every combination.")],
    minutes: Annotated[float | None, typer.Option(help="Training minutes a run; otherwise --steps or the recipe's own.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of every run.")] = None,
    seeds: Annotated[int, typer.Option(help="Training seeds, from 0.")] = 1,
    panels: Annotated[str, typer.Option(help="Comma-separated panels to measure.")] = "density,generation,cost",
    columns: Columns = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows in each part of the data.")] = None,
    workspace: Workspace = Path("sweeps"),
    jobs: Annotated[int, typer.Option(help="Runs at once, one thread each; 0 takes all cores.")] = 0,
) -> None:
    """Train a recipe at every combination of settings and draw density against quality against time."""
    from genalloy.studies.panels import PANELS
    from genalloy.studies.reproduce import RunPlan, sweep_of
    from genalloy.studies.reproduce import reproduce as run_experiment

    _not_both({"--steps": steps is not None, "--minutes": minutes is not None})
    measured = listed("--panels", panels, PANELS)
    experiment = sweep_of(recipe, data, over, measured, lambda r, n, text: _settings(r, [f"{n}={text}"])[n])
    order = RunPlan("quick", seeds, workspace, jobs, _command(), limit, minutes, steps, columns)
    page, _ = run_experiment(experiment, order, None)
    print(f"the page: {page}")


def _command() -> str:
    return shlex.join(["genalloy", *sys.argv[1:]])


@app.command(cls=BoundedOption)
def report(folder: Annotated[Path, typer.Argument(help="Folder of a comparison.")]) -> None:
    """Write the page of a comparison again from its results."""
    from genalloy.report.page import write_page

    print(f"the page: {write_page(folder)}")


@app.command(cls=BoundedOption)
def check(
    thing: Annotated[str, typer.Argument(help="A recipe's name or a run's folder.")],
    data: Annotated[str, typer.Option(help="Data space to build a recipe for.")] = "8gaussians",
    threads: Threads = 1,
) -> None:
    """Run the laws on a recipe's model or on your own run's; for diffusion, the analytic self-test too."""
    from genalloy.runs.check import check_thing

    _use(threads)
    if not check_thing(thing, data):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors are one clear line with the next move."""
    report_errors(app)
