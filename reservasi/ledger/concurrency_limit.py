"""Limits how many claims may be in flight at once, from the delay that claims meet before their batch is sent.

A fixed number would suit one machine only. Queueing time indicates overload, as in DAGOR (Zhou et al., "Overload
Control for Scaling WeChat Microservices", SoCC 2018, with a threshold of 20 ms; people at an opening tolerate more). As
in CoDel (RFC 8289) the least delay of an interval counts, so that a short burst passes and only a standing queue is
cut. The size of a cut follows from Little's law: at constant throughput, the delay is proportional to the number in
flight.
"""

CUT_LEAST = 0.5  # largest cut of one interval, as a share of the limit
GROWTH = 1.25  # per interval without a standing queue, while the limit is in use
IN_USE = 0.5  # share of the limit in flight below which raising it would teach nothing


class ConcurrencyLimit:
    """A number of claims between `least` and `most`; starts at `most`, so that an opening's burst is accepted."""

    def __init__(self, *, least: int, most: int, target_s: float, interval_s: float = 0.5) -> None:
        self.value = most
        self._least = min(least, most)
        self._most = most
        self._target_s = target_s
        self._interval_s = interval_s
        self._ends_at = 0.0
        self._delay_min_s = float("inf")
        self._under_way_max = 0

    def observe(self, delay_s: float, under_way: int, now_s: float) -> None:
        """Note how long the oldest claim of a batch waited, and how many claims were in flight then."""
        self._delay_min_s = min(self._delay_min_s, delay_s)
        self._under_way_max = max(self._under_way_max, under_way)
        if now_s >= self._ends_at:
            if self._ends_at:
                self._adapt()
            self._delay_min_s, self._under_way_max = float("inf"), 0
            self._ends_at = now_s + self._interval_s

    def _adapt(self) -> None:
        if self._delay_min_s > self._target_s:
            wanted = min(self.value, self._under_way_max) * max(CUT_LEAST, self._target_s / self._delay_min_s)
            self.value = max(self._least, round(wanted))
        elif self._under_way_max >= self.value * IN_USE:
            self.rest()

    def rest(self) -> None:
        """There is no queue: raise the limit step by step."""
        self.value = min(self._most, int(self.value * GROWTH) + 1)
