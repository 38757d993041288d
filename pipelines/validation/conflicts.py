"""`Conflicts`: records that contradict each other, counted, and the first of them named."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.validation.findings import Where

_MOST_PLACES = 20


@dataclass
class Conflicts:
    """Where records contradict others, and what they say.

    Attributes:
        count: of all.
        places: of the first.
    """

    count: int = 0
    places: list[tuple[Where, str]] = field(default_factory=list)

    def add(self, where: Where, said: str) -> None:
        """Takes a record that does."""
        self.count += 1
        if len(self.places) < _MOST_PLACES:
            self.places.append((where, said))

    def merge(self, other: Conflicts) -> None:
        """Takes what another shard has."""
        self.count += other.count
        self.places = [*self.places, *other.places][:_MOST_PLACES]

    @property
    def more(self) -> int:
        """How many are not among `places`."""
        return self.count - len(self.places)
