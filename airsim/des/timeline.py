"""What happened when, and what it cost."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """One activity of one actor."""

    actor: str
    phase: str
    start_s: float
    stop_s: float
    energy_j: float = 0.0


@dataclass
class Timeline:
    """The spans since they were last taken; the one record that all processes write."""

    spans: list[Span] = field(default_factory=list)

    def record(self, span: Span) -> None:
        """Add a finished activity."""
        self.spans.append(span)

    def take(self) -> tuple[Span, ...]:
        """The spans so far, in order of their stop; the timeline is empty afterwards."""
        taken, self.spans = tuple(self.spans), []
        return taken
