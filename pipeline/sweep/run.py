"""The sweep itself."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from ctr.components.scoring.baselines import FILE_NAME, BaselineResults
from ctr.models.impression import EVAL_SPLIT, SHOWN
from ctr.models.registry import code_of
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.terminal import Terminal
from ctr.pipeline.runners.local import LocalRunner
from ctr.pipeline.settings.pipeline_config import PipelineConfig
from ctr.pipeline.step_code import project_sources
from ctr.pipeline.sweep.child import ChildFailed, in_child
from ctr.pipeline.sweep.render import SweepReport, render_csv, render_markdown
from ctr.pipeline.sweep.results import Journal, TrialResult, summarize, trial_key
from ctr.pipeline.sweep.trials import Trial


def sweep(config: PipelineConfig, trials: Sequence[Trial], terminal: Terminal | None = None) -> SweepReport:
    """Ingests and transforms once, trains every trial that has no result yet, and writes table and plot.

    Each trial has a process of its own: the memory of one is free for the next, and one that crashes ends no sweep.
    Written to ``<output>/sweep``: ``trials.jsonl`` (every result ever measured there), and of these trials
    ``trials.csv``, ``table.md`` and ``plot.png``, anew after each trial, of which the terminal gets a line.

    Raises:
      ConfigError: if the data cannot be ingested with this configuration.
      RunFailed: if a step before training fails.
    """
    terminal = terminal or Terminal()
    config = config.with_absolute_paths()
    prepared = LocalRunner(terminal).prepare_data(config)
    examples, transform_graph = prepared.transformed_examples, prepared.transform_graph
    with open(os.path.join(prepared.baselines, FILE_NAME), encoding="utf-8") as file:
        baselines = BaselineResults.model_validate_json(file.read())

    # TensorFlow is loaded by now; before the data was prepared its import would have written to the terminal.
    from ctr.pipeline.sweep.measure import measure_json

    folder = Layout(config.output).sweep
    journal = Journal(os.path.join(folder, "trials.jsonl"))
    known = journal.read()
    keys = [trial_key(trial, config, examples, _code(trial, config, measure_json.__module__)) for trial in trials]
    missing = sum(key not in known for key in keys)
    terminal.note(f"{len(trials)} trials, {len(trials) - missing} of them measured before")
    results: list[TrialResult] = []
    done, start = 0, time.monotonic()
    for trial, key in zip(trials, keys, strict=True):
        if key not in known:
            shared = (config.to_json(), transform_graph, examples, prepared.catalogue)
            begun = time.monotonic()
            try:
                text = in_child(measure_json, trial.model_dump_json(), key, *shared, imports=[measure_json.__module__])
                known[key] = TrialResult.model_validate_json(text)
                journal.append(known[key])
            except ChildFailed as error:
                # Not written down: the next sweep tries once more.
                seconds = time.monotonic() - begun
                known[key] = TrialResult(key=key, trial=trial, failure=str(error), seconds=seconds)
            done += 1
            left = (time.monotonic() - start) / done * (missing - done)
            line = _line(known[key], config.ingest.judged_set)
            terminal.note(f"[{done:>3}/{missing}] {line}, about {left / 60:.0f} min left")
            _write(folder, config, baselines, [*results, known[key]])
        results.append(known[key])
    return _write(folder, config, baselines, results)


def _code(trial: Trial, config: PipelineConfig, module: str) -> str:
    settled = trial.configure(config)
    return project_sources().digest([module, *code_of(settled.model, settled.sampler)])


def _line(result: TrialResult, judged: str) -> str:
    head = f"{result.trial.variant}, seed {result.trial.seed}"
    if result.failure is not None:
        return f"{head}: {result.failure}"
    return f"{head}: AUC {result.sets[judged].auc:.4f}, {result.seconds:.0f} s"


def _write(
    folder: str, config: PipelineConfig, baselines: BaselineResults, results: Sequence[TrialResult]
) -> SweepReport:
    from ctr.pipeline.sweep.plot import plot

    order = list(dict.fromkeys(result.trial.variant for result in results))
    by_variant = sorted(results, key=lambda result: order.index(result.trial.variant))
    report = SweepReport(
        protocol=_protocol(config, baselines),
        judged_set=config.ingest.judged_set,
        baselines=baselines,
        variants=tuple(summarize(by_variant, config.ingest.judged_set)),
        failures=tuple(result for result in results if result.failure is not None),
    )
    os.makedirs(folder, exist_ok=True)
    for name, text in (("trials.csv", render_csv(by_variant)), ("table.md", render_markdown(report))):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    if report.variants:
        plot(report, os.path.join(folder, "plot.png"))
    return report


def _protocol(config: PipelineConfig, baselines: BaselineResults) -> str:
    ingest, training = config.ingest, config.training
    pairs = ", ".join(f"{result.pairs:,} pairs {name.replace('_', ' ')}" for name, result in baselines.sets.items())
    targets = "all events" if ingest.targets_per_user is None else f"the latest {ingest.targets_per_user} events"
    shares = "events"
    if ingest.targets == "last":
        targets, shares = "the last event of all", "users by their last event"
    leaks = [*ingest.leaks, *(["training.choose_epoch_on"] if training.choose_epoch_on == EVAL_SPLIT else [])]
    warning = f" **Leaks on purpose: {', '.join(leaks)}; no AUC here compares with those without.**" if leaks else ""
    flipped = " (labels flipped: one candidate an impression)" if ingest.flip_labels else ""
    negatives = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in ingest.training_negatives if count)
    drawn = f"{ingest.evaluation_negatives} a positive in each set, seed {ingest.seed}"
    if ingest.exposures:
        targets = targets.replace("events", "requests")
        negatives = f"what was shown{f' and {negatives}' if negatives else ''}"
        drawn = "what was shown" if ingest.evaluation_sets == (SHOWN,) else f"what was shown, and {drawn}"
    return (
        f"Protocol: {os.path.basename(config.data)}; train, validation and eval follow one another in time, eval is "
        f"the last {ingest.eval_share:.0%} of the {shares}; in each split a user's targets are {targets}, the history "
        f"of each the last {ingest.history_length} events before it; training negatives: {negatives}; evaluation: "
        f"{drawn} ({pairs}){flipped}. At most "
        f"{training.epochs} epochs, batch {training.batch_size}, learning rate {training.learning_rate:g}, the epoch "
        f"chosen on the {training.choose_epoch_on} split. Mean ± sample deviation over seeds. GAUC, log loss and the "
        f"exchange of histories: {ingest.judged_set} negatives. Speed: this machine, as busy as it was.{warning}"
    )
