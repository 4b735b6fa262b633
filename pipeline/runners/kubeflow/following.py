"""Follows a run of Kubeflow Pipelines to its end: what runs, what waits and why, and what ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from ctr.pipeline.process.terminal import LiveLine
from ctr.pipeline.runners.kubeflow.api import DRIVER, FAILED_STATES, Api, ApiError, Pod, StepState

FINAL_STATES: Final = FAILED_STATES | {"SUCCEEDED", "SKIPPED", "CANCELED"}
"""States that a run or a step does not leave."""
PATIENCE_SECONDS: Final = 120.0
"""A pod that waits so long is said to, and why; one that starts does not take it."""


class RunProgress:
    """Says what becomes of a run's steps: a line a change.

    A step that ended gets a line, one that waits for longer than :data:`PATIENCE_SECONDS` another with the reason,
    again where that changes. On a terminal a line below them says what is under way; elsewhere a step that starts gets
    a line.

    Args:
      tasks: the pipeline's; the server also lists its own helpers, which are not shown.
      line: gets the lines.

    Attributes:
      states: of each task that was seen, the API's word for it.
    """

    def __init__(self, tasks: Sequence[str], line: LiveLine) -> None:
        self._tasks = tasks
        self._line = line
        self._since: dict[str, float] = {}
        self._reasons: dict[str, str] = {}
        self.states: dict[str, str] = {}

    def update(self, steps: Sequence[StepState], pods: Mapping[str, Pod]) -> None:
        """Takes a look at a run: its steps, and of those that wait or failed the pods, as far as they are known."""
        found = {step.name: step for step in steps}
        for task in self._tasks:
            step, driver = found.get(task), found.get(f"{task}{DRIVER}")
            pod = pods.get(task, Pod("", ""))
            # What a step is told to do is worked out by a pod of its own, the driver; only then the step is listed.
            if driver is not None and (step is None or driver.state in FAILED_STATES):
                step = driver._replace(state=driver.state if driver.state in FAILED_STATES else "PENDING")
            if step is not None:
                # A step counts as running from its driver's end on, whatever its pod waits for.
                waits = step.state == "RUNNING" and pod.phase == "Pending"
                self._take(task, "PENDING" if waits else step.state, step.seconds, pod.message)
        self.show()

    def show(self) -> None:
        """Shows on a terminal what is under way, with the time since it was first seen so."""
        ways = {state: [task for task, now in self.states.items() if now == state] for state in ("RUNNING", "PENDING")}
        parts = [
            f"{state.lower()}: {', '.join(f'{task} {self._seconds(task):.0f} s' for task in tasks)}"
            for state, tasks in ways.items()
            if tasks
        ]
        self._line.over(f"{self._count()} {'; '.join(parts)}" if parts else "")

    def _take(self, task: str, state: str, seconds: float | None, message: str) -> None:
        changed = self.states.get(task) != state
        if changed:
            self.states[task] = state
            self._since[task] = time.monotonic()
            self._reasons.pop(task, None)
        if state == "PENDING":
            if self._seconds(task) >= PATIENCE_SECONDS and self._reasons.get(task) != message:
                self._reasons[task] = message
                self._say(task, self._seconds(task), message or "the API does not say why")
        elif changed and state in FINAL_STATES:
            self._say(task, seconds, message if state in FAILED_STATES else "")
        elif changed and state == "RUNNING" and not self._line.in_place:
            self._say(task, None, "")

    def _say(self, task: str, seconds: float | None, message: str) -> None:
        took = "" if seconds is None else f"{seconds:.0f} s"
        text = f"{self._count()} {task:<24} {self.states[task].lower():<10} {took:>8}  {message}"
        self._line.say(text.rstrip())

    def _count(self) -> str:
        return f"[{sum(state in FINAL_STATES for state in self.states.values()):>2}/{len(self._tasks)}]"

    def _seconds(self, task: str) -> float:
        return time.monotonic() - self._since[task]


def follow(
    api: Api,
    run_id: str,
    tasks: Sequence[str],
    line: LiveLine,
    poll_seconds: float = 10,
    patience: int = 6,
    timeout: float | None = None,
) -> tuple[str, dict[str, str]]:
    """Follows a run to its end, see :class:`RunProgress`.

    Args:
      api: the connection.
      run_id: of the run.
      tasks: the pipeline's.
      line: gets the lines.
      poll_seconds: between two looks.
      patience: looks in a row that may fail for a reason that may pass.
      timeout: seconds to follow it at most.

    Returns:
      The run's final state, and the state of each task that was seen.

    Raises:
      ApiError: if the run can no longer be seen, or did not end in time. It goes on all the same.
    """
    progress = RunProgress(tasks, line)
    failures = 0
    start = time.monotonic()
    goes_on = f"the run goes on: {api.run_page(run_id)}"
    try:
        while True:
            try:
                state, steps = api.state(run_id)
                asked = any(step.state in FAILED_STATES | {"PENDING"} for step in steps)
                progress.update(steps, api.pods(run_id) if asked else {})
                failures = 0
            except ApiError as error:
                failures += 1
                if not error.may_pass or failures >= patience:
                    raise ApiError(f"{error}\n{goes_on}") from error
            else:
                if state in FINAL_STATES:
                    return state, progress.states
            if timeout is not None and time.monotonic() - start > timeout:
                raise ApiError(f"run {run_id} has not ended after {timeout:g} s\n{goes_on}")
            _rest(poll_seconds, progress)
    finally:
        line.over("")


def _rest(seconds: float, progress: RunProgress) -> None:
    """Waits, and lets the times on a terminal go on."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 1))
        progress.show()
