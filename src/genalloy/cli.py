"""The command line. It maps names to values and draws progress; everything it does can be done in Python too."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

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
        help="A toy's name, `digits`, `sprites`, `waves`, a published set, or a path: .npy .npz .csv .parquet .txt .wav .gz,"
        " or a folder of images or .wav. Text and sequences: DATA@window=N, DATA@window=N,bpe=TOKENS."
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, as written by `genalloy fit --out`.")]
Seed = Annotated[int, typer.Option(help="Seed of the split, the initial weights and everything random.")]
Threads = Annotated[int, typer.Option(help="CPU threads; more than one rarely helps small models.")]


@app.command()
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


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="A name that `genalloy recipes` lists.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE-DATA by default.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a recipe's setting.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of labels, taken out of the observations.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; the recipe's own by default.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget, turned into steps once after a timed warm-up.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop early after so many validations without improvement.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows in each part of the data.")] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Start from an earlier run's weights.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run to the same numbers.")] = False,
    seed: Seed = 0,
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed, ... (Lightning Fabric's names).")] = "32-true",
    processes: Annotated[int, typer.Option(help="Processes that share each batch.")] = 1,
    dry_run: Annotated[bool, typer.Option(help="Print parameters, memory and expected minutes; train nothing.")] = False,
) -> None:
    """Train a recipe on data. Ctrl-C saves; `--resume` continues to the same numbers."""
    from genalloy.runs.settings import RunSettings

    folder = out or Path("runs") / f"{recipe}-{Path(data).stem}"
    settings = RunSettings(
        recipe, data, label, limit, _settings(recipe, set_ or []), steps, minutes, seed, threads, device, precision, processes,
        patience,
    )  # fmt: skip
    _use_threads(threads)
    if dry_run:
        _print_cost(settings)
        return
    from genalloy.runs.launch import launch

    launch(settings, folder, resume=resume, earlier=from_)


def _settings(recipe: str, pairs: list[str]) -> dict[str, Any]:
    """`--set name=value`, the value read as its default's type. Raises ValueError on a malformed or unknown pair."""
    from genalloy.recipes.registry import find

    defaults, result = find(recipe).settings(), {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--set {pair!r} has no '='; expected NAME=VALUE with NAME one of {', '.join(defaults)}")
        result[name] = _read(name, text, defaults.get(name))
    return result


def _read(name: str, text: str, default: Any) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if isinstance(default, (int, float)) and not isinstance(value, (int, float)):
        raise ValueError(f"--set {name}={text} is not a number; {name} is {default!r} by default")
    return value


def _print_cost(settings: Any) -> None:
    from genalloy.runs.start import estimate

    cost = estimate(settings)
    print(f"parameters        {cost.parameters:,}")
    print(f"steps             {cost.steps:,}")
    print(f"memory            about {cost.megabytes:.0f} MiB beside torch itself")
    print(f"expected minutes  {cost.minutes:.1f} on this machine, validation not counted")


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


@app.command()
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
    seed: Seed = 0,
    threads: Threads = 1,
) -> None:
    """Draw samples from a finished run, in the form of the user's own data; or complete a text, or given rows."""
    from genalloy.runs import completion as completing
    from genalloy.runs.export import write_drawn
    from genalloy.runs.start import RunData, trained_model

    _use_threads(threads)
    facts, filters = RunData.read_existing(run), completing.filters_of(temperature, top_k, top_p)
    model = completing.under(trained_model(run), filters)
    given = completing.beginning(facts, prompt) if prompt is not None else None
    given = completing.given(facts, complete, known) if complete is not None else given
    scheme = completing.scheme_of(completion, facts.space.levels)
    print(write_drawn(model, facts, given, n, out, seed, scheme), end=f", {completing.law(filters)}\n" if filters else "\n")


@app.command()
def score(
    run: RunFolder,
    data: Data,
    out: Annotated[Path, typer.Option(help="Where to write one row per observation.")] = Path("scores.csv"),
    samples: Annotated[int, typer.Option(help="Importance samples where the density is a proper bound.")] = 100,
    label: Annotated[str | None, typer.Option(help="Column of labels to leave out.")] = None,
    threads: Threads = 1,
) -> None:
    """Log-density of each row with its label, and its outlier rank (1 = least likely)."""
    from genalloy.runs.export import write_scores

    _use_threads(threads)
    print(write_scores(run, data, label, out, samples))


@app.command()
def encode(
    run: RunFolder,
    data: Data,
    out: Annotated[Path, typer.Option(help="codes.npz or codes.csv.")] = Path("codes.npz"),
    label: Annotated[str | None, typer.Option(help="Column of labels to leave out.")] = None,
    threads: Threads = 1,
) -> None:
    """Codes of each row: posterior means, or a flow's latents."""
    from genalloy.runs.export import write_codes

    _use_threads(threads)
    print(f"wrote {write_codes(run, data, label, out)}")


@app.command()
def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Argument(help="Data to evaluate on; the run's own test part by default.")] = None,
    samples: Annotated[int, typer.Option(help="Samples for the generation panel.")] = 1000,
    panels: Annotated[str | None, typer.Option(help="Comma-separated panels; all by default.")] = None,
    importance: Annotated[int, typer.Option(help="Importance samples of the tightest bound.")] = 64,
    outliers: Annotated[str | None, typer.Option(help="Comma-separated data of the same space to tell apart.")] = None,
    stride: Annotated[int | None, typer.Option(help="Text: also by windows that overlap, one every so many characters.")] = None,
    threads: Threads = 1,
) -> None:
    """Density, generation, representation, outliers and cost of a finished run, each number with its label."""
    from genalloy.runs.evaluate import evaluate_run, print_row
    from genalloy.runs.examine import PANELS, Asked

    _use_threads(threads)
    from rich.console import Console

    names = tuple(panels.split(",")) if panels else tuple(PANELS)
    with Console(stderr=True).status("loading") as status:
        row = evaluate_run(run, data, Asked(names, samples, importance, _names(outliers)), status.update, stride)
    print_row(row)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


@app.command()
def compare(
    data: Data,
    recipes: Annotated[str | None, typer.Option(help="Comma-separated names, or all; by default the usual ones.")] = None,
    minutes: Annotated[float, typer.Option(help="Training minutes for each recipe, at most.")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; comparisons/DATA by default.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of labels.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows in each part of the data.")] = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(help="Training seeds a row, from --seed on; claims of quality need three.")] = 1,
    jobs: Annotated[int, typer.Option(help="Recipes trained at once, one thread each; 0 takes all cores.")] = 0,
) -> None:
    """Train recipes side by side and write one page. Finished rows are kept when interrupted; run again to continue."""
    from genalloy.runs.compare import Comparison, run_comparison

    names = tuple(recipes.split(",")) if recipes else ()
    folder = out or Path("comparisons") / Path(data).stem
    page = run_comparison(Comparison(data, names, minutes, folder, label, limit, seed, jobs, _command(), seeds))
    print(f"the page: {page}")


Workspace = Annotated[Path, typer.Option(help="Where runs and tables are kept; runs are shared and continued.")]


@app.command()
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
    from genalloy.runs.documents import print_group, print_list, write_results
    from genalloy.runs.reproduce import Order
    from genalloy.runs.reproduce import reproduce as run_experiment

    if document is not None:
        print(f"wrote {write_results(results, document)}")
    if list_ or (name is None and document is None):
        print_list(results)
    if name is None:
        return
    found = find_experiments(name)
    for experiment in found:
        # the command that anybody can repeat: where runs and results are kept is this user's own affair
        command = f"genalloy reproduce {experiment.name} --budget {budget} --seeds {seeds}"
        page, verdict = run_experiment(experiment, Order(budget, seeds, workspace, jobs, command), results)
        print(f"{experiment.name}: {verdict.outcome.value if verdict else 'no claim'}. {verdict.words if verdict else ''}")
        print(f"the page: {page}")
    if len(found) > 1:
        print_group(results, found)


@app.command()
def sweep(
    recipe: Annotated[str, typer.Argument(help="A name that `genalloy recipes` lists.")],
    data: Data,
    over: Annotated[list[str], typer.Option(help="NAME=A,B,C of a recipe's setting; several give every combination.")],
    minutes: Annotated[float | None, typer.Option(help="Training minutes a run; otherwise --steps or the recipe's own.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of every run.")] = None,
    seeds: Annotated[int, typer.Option(help="Training seeds, from 0.")] = 1,
    panels: Annotated[str, typer.Option(help="Comma-separated panels to measure.")] = "density,generation,cost",
    limit: Annotated[int | None, typer.Option(help="At most so many rows in each part of the data.")] = None,
    workspace: Workspace = Path("sweeps"),
    jobs: Annotated[int, typer.Option(help="Runs at once, one thread each; 0 takes all cores.")] = 0,
) -> None:
    """Train a recipe at every combination of settings and draw density against quality against time."""
    from genalloy.runs.reproduce import Order, sweep_of
    from genalloy.runs.reproduce import reproduce as run_experiment

    experiment = sweep_of(recipe, data, over, tuple(panels.split(",")), lambda r, n, text: _settings(r, [f"{n}={text}"])[n])
    order = Order("quick", seeds, workspace, jobs, _command(), limit, minutes, steps)
    page, _ = run_experiment(experiment, order, None)
    print(f"the page: {page}")


def _command() -> str:
    return "genalloy " + " ".join(sys.argv[1:])


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a comparison.")]) -> None:
    """Write the page of a comparison again from its results."""
    from genalloy.report.page import write_page

    print(f"the page: {write_page(folder)}")


@app.command()
def check(
    thing: Annotated[str, typer.Argument(help="A recipe's name or a run's folder.")],
    data: Annotated[str, typer.Option(help="Data space to build a recipe for.")] = "8gaussians",
    threads: Threads = 1,
) -> None:
    """Run the laws on a recipe's model or on your own run's; for diffusion, the analytic self-test too."""
    from genalloy.runs.check import check_thing

    _use_threads(threads)
    if not check_thing(thing, data):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors are one clear line with the next move."""
    from genalloy.training.diagnose import Diverged

    try:
        app(standalone_mode=False)
    except (ValueError, Diverged, OSError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "show"):
            error.show()
            sys.exit(error.exit_code)
        raise


if __name__ == "__main__":
    main()
