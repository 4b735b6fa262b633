"""Where the time of a training step goes: what the Trainer writes into its model run and the report shows."""

from __future__ import annotations

from typing import Final

from ctr.models.section import Record

PROFILE_FILE: Final = "profile.json"
"""In the Trainer's model run, beside TensorBoard's trace; only there if ``training.profile_steps`` asked for it."""


class StepProfile(Record):
    """Medians over some steps, in milliseconds; a part that is lost in the noise of the others is 0."""

    steps: int
    batch_size: int
    """Impressions of a step over all replicas."""
    device: str
    """What computed: ``CPU``, or the name of a GPU, with their number where there are several."""
    input_wait: float
    """From the end of a step to the batch of the next one being there."""
    forward: float
    """Drawing candidates, the model and the loss."""
    backward: float
    """What gradients take beside that."""
    update: float
    """What a whole step takes beside both."""

    @property
    def parts(self) -> dict[str, float]:
        """In words -> milliseconds."""
        return {
            "input wait": self.input_wait,
            "forward": self.forward,
            "backward": self.backward,
            "update": self.update,
        }

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(self.parts.values())

    @property
    def words(self) -> str:
        """In one sentence."""
        of = ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in self.parts.items())
        return f"A training step of {self.batch_size:,} impressions takes {self.total:.2f} ms on {self.device}: {of}."
