"""`lrat <command>`: argument parsing only. A batch command loads a Config, runs one stage and says what to do next."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from lrat_ray.artifacts import Manifest, join, read_json
from lrat_ray.config import Config, ConfigError, load_config
from lrat_ray.sections import Fields

if TYPE_CHECKING:
    from lrat_ray.training.plan import Plan

app = typer.Typer(
    help="Turn the trajectories of search agents into a better retriever, on Ray (LRAT, arXiv 2604.04949).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
import_app = typer.Typer(help="Bring a corpus, questions or trajectories into the project's form.", no_args_is_help=True)
app.add_typer(import_app, name="import")
export_app = typer.Typer(help="Write what the project holds in the form that other tools read.", no_args_is_help=True)
app.add_typer(export_app, name="export")

ConfigFile = Annotated[str | None, typer.Option("--config", help="YAML file of the experiment (any fsspec URI).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Dotted overrides, for example train.learning_rate=2e-5."),
]
Output = Annotated[str | None, typer.Option("--output", help="Directory to write to (any fsspec URI); same as output=DIR.")]
Corpus = Annotated[str | None, typer.Option("--corpus", help="Parquet, JSONL or documents artifact; same as corpus=URI.")]
Trajectories = Annotated[
    str | None,
    typer.Option("--trajectories", "--source", help="Logs (file, directory, glob) or artifact; same as trajectories=URI."),
]
LogFormat = Annotated[str | None, typer.Option("--format", help="Format of the logs; same as logs.format=NAME.")]
LogTools = Annotated[
    list[str] | None,
    typer.Option("--tools", metavar="KIND=NAME,...", help="Tools to know besides: search=web_search,browse=open_url."),
]
LogFields = Annotated[
    list[str] | None,
    typer.Option("--fields", metavar="FIELD=NAME,...", help="logs.fields.*: results=organic,docid=link,title=name."),
]
Aliases = Annotated[str | None, typer.Option("--aliases", help="Table with alias and docid; same as logs.docid_aliases=URI.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show how the first few trajectories are read; write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Start over where the output holds earlier work.")]
Json = Annotated[bool, typer.Option("--json", help="Print the manifest as JSON on standard output.")]

_INTERRUPTED = 130

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


@import_app.command("corpus")
def import_corpus(
    overrides: Overrides = None,
    config: ConfigFile = None,
    corpus: Corpus = None,
    chunk_tokens: Annotated[
        str | None,
        typer.Option("--chunk-tokens", metavar="N", help="Cut documents into chunks; same as documents.chunk_tokens=N."),
    ] = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a memory-mapped documents artifact from Parquet, JSONL (.gz, .zst), a BEIR folder, a directory or a glob."""
    from lrat_ray import documents

    cfg = _config(config, overrides, corpus=corpus, documents__chunk_tokens=chunk_tokens, output=output, force=force)
    source = cfg.require("corpus", "it is what is imported")
    target = cfg.require("output", "the documents artifact needs a directory")
    limit = cfg.documents.chunk_tokens
    encoding = f" index.passage_max_tokens={limit}" if limit else ""
    manifest = documents.build(source, target, config=cfg, force=cfg.force)
    _finish(manifest, f"lrat index --corpus {{uri}}{encoding} --output RELEASE", as_json)


@import_app.command("questions")
def import_questions(
    overrides: Overrides = None,
    config: ConfigFile = None,
    questions: Annotated[
        str | None, typer.Option("--questions", help="Parquet, JSONL, TSV or BEIR folder; same as questions.eval=URI.")
    ] = None,
    qrels: Annotated[
        str | None, typer.Option("--qrels", help="Where the evidence is, TREC or BEIR form; same as questions.qrels=URI.")
    ] = None,
    corpus: Corpus = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Check questions.eval against its qrels and the corpus (if given) and write a questions artifact."""
    from lrat_ray import artifacts, documents
    from lrat_ray import questions as stage

    cfg = _config(
        config, overrides, questions__eval=questions, questions__qrels=qrels, corpus=corpus, output=output, force=force
    )
    source = cfg.require("questions.eval", "it is what is imported")
    target = cfg.require("output", "the questions artifact needs a directory")
    if cfg.force:  # before the doc store, which lies inside the output
        artifacts.start_over(target, {"questions.eval": source, "corpus": cfg.corpus})
    store = documents.ensure(cfg.corpus, f"{target}/documents", config=cfg) if cfg.corpus else None
    manifest = stage.build(source, target, qrels=cfg.questions.qrels, gold_qrels=cfg.questions.gold_qrels, documents=store)
    command = "lrat rollout questions.eval={uri} rollout.retriever_url=URL --output ROLLOUTS"
    if mute := manifest.metrics.get("without_answer"):
        _err.print(f"{mute:,} questions have no answer: they can evaluate retrieval, not agents")
        command = "lrat index --corpus CORPUS --output RELEASE"
    _finish(manifest, command, as_json)


@import_app.command("trajectories")
def import_trajectories(
    overrides: Overrides = None,
    config: ConfigFile = None,
    trajectories: Trajectories = None,
    corpus: Corpus = None,
    format_name: LogFormat = None,
    tools: LogTools = None,
    fields: LogFields = None,
    aliases: Aliases = None,
    dry_run: DryRun = False,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read the logs of agents, in any known format, into a trajectories artifact; --corpus says how many docids it has."""
    from lrat_ray.trajectories import importing

    cfg = _config(config, overrides, trajectories=trajectories, corpus=corpus, output=output, force=force)
    cfg = _with_logs(cfg, format_name, tools, fields, aliases)
    if dry_run:
        _preview(cfg)
        return
    _finish(importing.run(cfg), "lrat mine --trajectories {uri} --output PAIRS", as_json)


@export_app.command("trajectories")
def export_trajectories(
    overrides: Overrides = None,
    config: ConfigFile = None,
    trajectories: Trajectories = None,
    format_name: LogFormat = None,
    tools: LogTools = None,
    fields: LogFields = None,
    aliases: Aliases = None,
    output: Output = None,
    force: Force = False,
) -> None:
    """Write trajectories as BrowseComp-Plus run files, OUTPUT/<trajectory_id>.json."""
    from lrat_ray.trajectories import exporting

    cfg = _config(config, overrides, trajectories=trajectories, output=output, force=force)
    exported = exporting.run(_with_logs(cfg, format_name, tools, fields, aliases))
    _out.print(f"wrote {exported.written:,} run files to {escape(exported.uri)}")
    if exported.rejected:
        _out.print(f"rejected rows ({exported.rejected:,}) and their reasons: {escape(exported.rejected_uri)}")


@app.command()
def analyze(
    overrides: Overrides = None,
    config: ConfigFile = None,
    trajectories: Trajectories = None,
    questions: Annotated[
        str | None, typer.Option("--questions", help="Questions with evidence_docids; same as questions.eval=URI.")
    ] = None,
    browses: Annotated[
        str | None, typer.Option("--browses", help="Judged browses, PAIRS/judged of `lrat mine`; same as analyze.browses=URI.")
    ] = None,
    format_name: LogFormat = None,
    tools: LogTools = None,
    fields: LogFields = None,
    aliases: Aliases = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Table 1 and Figures 4 and 6 of the paper for your trajectories, and whether the method's assumptions hold there."""
    from lrat_ray.mining import analyze as stage

    cfg = _config(
        config,
        overrides,
        trajectories=trajectories,
        questions__eval=questions,
        analyze__browses=browses,
        output=output,
        force=force,
    )
    manifest = stage.run(_with_logs(cfg, format_name, tools, fields, aliases))
    if not as_json:
        for line in stage.verdict_lines(manifest):
            _out.print(escape(line))
        _out.print(f"analysis: {escape(join(manifest.uri, stage.ANALYSIS))}")
        _out.print(f"page:     {escape(join(manifest.uri, stage.PAGE))}")
    _finish(manifest, f"lrat mine --trajectories {cfg.trajectories} --output PAIRS", as_json)


@app.command()
def mine(
    overrides: Overrides = None,
    config: ConfigFile = None,
    trajectories: Trajectories = None,
    corpus: Corpus = None,
    format_name: LogFormat = None,
    tools: LogTools = None,
    fields: LogFields = None,
    aliases: Aliases = None,
    dry_run: DryRun = False,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Mine trajectories into weighted training pairs: browses -> verdicts -> negatives -> relevance intensity."""
    from lrat_ray.mining import pipeline

    cfg = _config(config, overrides, trajectories=trajectories, corpus=corpus, output=output, force=force)
    cfg = _with_logs(cfg, format_name, tools, fields, aliases)
    if dry_run:
        _preview(cfg)
        return
    _finish(pipeline.run(cfg), "lrat train train.pairs={uri} --corpus CORPUS --output ENCODER", as_json)


@app.command()
def train(
    overrides: Overrides = None,
    config: ConfigFile = None,
    corpus: Corpus = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained, and the memory it needs.")] = False,
) -> None:
    """Fine-tune a bi-encoder on pairs with the weighted InfoNCE loss (Ray Train, DeepSpeed)."""
    from lrat_ray.training import loop

    cfg = _config(config, overrides, corpus=corpus, output=output, force=force)
    if dry_run:
        _print_plan(loop.plan(cfg), as_json)
        return
    manifest = loop.run(cfg)
    gain = manifest.metrics.get("held_out_gain", {})
    if gain and not as_json:
        names = ", ".join(f"{name} {value:+.3f}" for name, value in gain.items())
        _out.print(f"gain on {manifest.metrics['held_out_questions']} held-out questions: {names}")
    _finish(manifest, "lrat index index.encoder={uri} --corpus CORPUS --output RELEASE", as_json)


@app.command()
def index(
    overrides: Overrides = None,
    config: ConfigFile = None,
    corpus: Corpus = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Build a release: encode the corpus and put encoder, index and doc store together."""
    from lrat_ray.retrieval import index as stage

    cfg = _config(config, overrides, corpus=corpus, output=output, force=force)
    _finish(stage.run(cfg), "lrat serve --release {uri}", as_json)


@app.command()
def serve(
    overrides: Overrides = None,
    config: ConfigFile = None,
    release: Annotated[str | None, typer.Option("--release", help="Release artifact; same as serve.release=URI.")] = None,
) -> None:
    """Serve a release over HTTP until Ctrl-C: POST /search, GET /documents/{docid}, GET /health, POST /promote."""
    from lrat_ray.retrieval import service

    service.run(_config(config, overrides, serve__release=release))


@app.command()
def promote(
    release: Annotated[str, typer.Option("--release", help="Release artifact to switch to.")],
    service: Annotated[str, typer.Option("--service", help="Base URL of the running retriever.")] = "http://127.0.0.1:8800",
) -> None:
    """Switch a running retriever to another release without dropping a request."""
    from lrat_ray.retrieval import client

    _out.print(f"{service} now serves release {client.promote(service, release)}")


@app.command("serve-llm")
def serve_llm(overrides: Overrides = None, config: ConfigFile = None) -> None:
    """Serve the simulated LLM (OpenAI chat-completions API) for questions.train and questions.eval until Ctrl-C."""
    from lrat_ray.quickstart import llm_service

    llm_service.run(_config(config, overrides))


@app.command()
def rollout(
    overrides: Overrides = None,
    config: ConfigFile = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Let agents answer questions.eval with the retriever at rollout.retriever_url and the LLM at llm.base_url."""
    from lrat_ray.agents import rollout as stage

    cfg = _config(config, overrides, output=output, force=force)
    _finish(stage.run(cfg), "lrat mine --trajectories {uri} --output PAIRS", as_json)


@app.command()
def evaluate(
    overrides: Overrides = None,
    config: ConfigFile = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Judge the answers of evaluate.runs and compare arms: success, evidence recall, steps, with paired intervals."""
    from lrat_ray.evaluation import evaluate as stage

    cfg = _config(config, overrides, output=output, force=force)
    _finish(stage.run(cfg), "lrat report {uri}", as_json)


@app.command()
def report(
    evaluation: Annotated[str, typer.Argument(help="Artifact of `lrat evaluate`.")],
    output: Annotated[str, typer.Option("--output", help="HTML file to write.")] = "report.html",
) -> None:
    """Write the self-contained HTML report of an evaluation."""
    from lrat_ray.evaluation import evaluate as stage

    stage.report(evaluation, output)
    _out.print(f"wrote {output}")


@app.command()
def flywheel(
    overrides: Overrides = None,
    config: ConfigFile = None,
    corpus: Corpus = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """One round of the whole loop on your corpus and questions; writes summary.json and report.html."""
    from lrat_ray import flywheel as stage

    cfg = _config(config, overrides, corpus=corpus, output=output, force=force)
    _finish_loop(stage.run(cfg), as_json)


@app.command()
def quickstart(
    overrides: Overrides = None,
    config: ConfigFile = None,
    output: Output = None,
    ablation: Annotated[bool, typer.Option("--ablation", help="Add the arms naive and filter.")] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """The whole loop on a made world with a simulated LLM: nothing to download, minutes on a laptop."""
    from lrat_ray.quickstart import run as stage

    cfg = _config(config, overrides, defaults=stage.defaults(ablation), output=output, force=force)
    _finish_loop(stage.run(cfg), as_json)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: run one command, stop what it started, exit with its code."""
    from lrat_ray import cluster

    try:
        code = run(argv)
    finally:
        cluster.shutdown()
    sys.exit(code)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 2 for bad input (the message names it), 1 for a failed run, or 130 when interrupted."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' progress bars; our own lines say how far the work is
    _show_progress()
    try:
        code = app(args=argv, standalone_mode=False) or 0
        if code == _INTERRUPTED:
            raise KeyboardInterrupt  # typer turns one that reaches it into this code
        return code
    except (KeyboardInterrupt, typer.Abort):
        _err.print("\n[bold]interrupted[/bold]: finished parts are kept; the same command continues")
        return _INTERRUPTED
    except (ValueError, typer.TyperException) as error:  # the latter: a command or flag that does not exist
        _err.print(f"[bold red]error[/bold red]: {escape(str(error))}")
        return 2
    except _failures() as error:
        _err.print(f"[bold red]failed[/bold red]: {escape(str(error))}")
        return 1


def _show_progress() -> None:
    log = logging.getLogger("lrat_ray")
    log.setLevel(logging.INFO)
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("  %(message)s"))
        log.addHandler(handler)


def _failures() -> tuple[type[Exception], ...]:
    """How a run fails with good input: Ray lost a worker, a disk is full. Looked up only when something is raised."""
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    return RuntimeError, OSError, RayError, TrainingFailedError


def _config(
    path: str | None, overrides: list[str] | None, defaults: dict[str, Any] | None = None, **aliases: str | bool | None
) -> Config:
    """The resolved Config; flags are aliases of dotted keys (`.` written as `__`) and win over the file."""
    flags = {key.replace("__", "."): value for key, value in aliases.items() if value}
    return load_config(path, overrides or (), defaults, flags)


def _with_logs(
    cfg: Config, format_name: str | None, tools: list[str] | None, fields: list[str] | None, aliases: str | None
) -> Config:
    """The flags that say how logs are read, on top of section logs; tools that are named are known besides those there.

    Raises ConfigError for a tool that would both search and browse, and for a field that is named twice.
    """
    changes: dict[str, Any] = {"logs__format": format_name, "logs__docid_aliases": aliases}
    for field, value in _named(fields, "--fields", tuple(Fields.model_fields)):
        if f"logs__fields__{field}" in changes:
            raise ConfigError(f"--fields: {field} is named twice ({changes[f'logs__fields__{field}']}, {value})")
        changes[f"logs__fields__{field}"] = value
    for kind, key, known in (
        ("search", "search_tools", cfg.logs.search_tools),
        ("browse", "browse_tools", cfg.logs.browse_tools),
    ):
        added = [name for named, name in _named(tools, "--tools", ("search", "browse")) if named == kind]
        changes[f"logs__{key}"] = tuple(dict.fromkeys([*known, *added]))
    both = [name for name in changes["logs__search_tools"] if name in changes["logs__browse_tools"]]
    if tools and both:
        raise ConfigError(f"--tools: {both[0]} cannot both search and browse")
    return cfg.replace(**{key: value for key, value in changes.items() if value})


def _named(flags: list[str] | None, option: str, kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    """The parts of `kind=name,kind=name` in a flag, which may be given again. Raises ConfigError for another kind, or none."""
    pairs = [part.strip().partition("=") for part in ",".join(flags or []).split(",") if part.strip()]
    for kind, separator, name in pairs:
        if kind not in kinds or not separator or not name:
            raise ConfigError(f"{option}: {kind}{separator}{name} is none of {', '.join(f'{kind}=NAME' for kind in kinds)}")
    return [(kind, name) for kind, _, name in pairs]


def _preview(cfg: Config) -> None:
    """Say what a dry run found; where that is not a single trajectory, the input is bad."""
    from lrat_ray.trajectories import preview

    found = preview.look(cfg)
    _out.print(escape(preview.describe(found)))
    if not found.trajectories:
        raise typer.Exit(2)


def _print_plan(plan: Plan, as_json: bool) -> None:
    """What a training run would do and need."""
    if as_json:
        _out.print_json(json.dumps(plan.as_json()))
        return
    for what, how_much in plan.rows():
        _out.print(f"{what + ':':<20}{escape(how_much)}")


def _finish(manifest: Manifest, next_command: str, as_json: bool) -> None:
    """Say what was written and the next command a person would run."""
    if as_json:
        _out.print_json(json.dumps(asdict(manifest)))
        return
    rows = ", ".join(f"{count:,} {what}" for what, count in manifest.rows.items())
    _out.print(f"wrote {escape(manifest.uri)} ({manifest.kind}: {rows})")
    if manifest.rows.get("rejected"):
        _out.print(f"rejected rows and their reasons: {escape(manifest.uri)}/rejected/")
    _out.print(f"next: {escape(next_command.format(uri=manifest.uri))}")


def _finish_loop(manifest: Manifest, as_json: bool) -> None:
    """The table of arms, and where the report lies."""
    from lrat_ray.evaluation.table import comparison_table

    if as_json:
        _out.print_json(json.dumps(asdict(manifest)))
        return
    summary = read_json(join(manifest.uri, "summary.json"))
    _out.print(comparison_table(summary))
    if simulated := summary["protocol"]["simulated"]:
        _out.print(f"simulated, not language models: {', '.join(simulated)}")
    _out.print(f"summary: {escape(manifest.uri)}/summary.json")
    _out.print(f"report:  {escape(manifest.uri)}/report.html")
