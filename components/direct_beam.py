"""Beam's direct runner as it was: in this process, and nothing else.

``DirectRunner`` of the newer stack's Beam (2.77) first looks for Prism, another runner: it fetches that program from
GitHub, keeps it in the home directory and runs it, with nothing to check it against. Without a way to GitHub it says
so in the log and goes on as before. Of the older stack's Beam (2.61) this is what ``DirectRunner`` is.
"""

from __future__ import annotations

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult, PipelineRunner


class DirectRunner(PipelineRunner):
    """Runs a pipeline in this process, or in the worker processes that its options ask for.

    Its name is by which Beam knows that a runner is of this machine.
    """

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineResult:
        """Runs it to its end."""
        # What worker processes are told; FnApiRunner by itself tells them nothing.
        told = JobServiceHandle.encode_pipeline_options(options.get_all_options())
        info = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=told))
        return FnApiRunner(provision_info=info).run_pipeline(pipeline, options)


def keep_beam_here() -> None:
    """From now on a pipeline of this process that names no runner is run by :class:`DirectRunner`.

    Not an argument of the pipeline: to a step with any argument TFX adds itself, packed for workers far away.
    """
    StandardOptions.DEFAULT_RUNNER = f"{__name__}.{DirectRunner.__name__}"
