"""How many claims may be under way at once: as many as can be answered soon, found out by the delay that they meet.

A fixed number is wrong on every machine but one. This limit follows the time that claims wait before their batch is
sent: queueing time tells overload, as in DAGOR (Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC
2018; 20 ms are too many there, people at an opening bear a little more). As in CoDel (RFC 8289) the least delay of an
interval counts, so that a burst that drains is let through and only a standing queue is cut. What is cut follows from
Little's law: with the same throughput, the delay is proportional to what is under way.
"""

CUT_LEAST = 0.5  # of the limit that one interval takes away at most
GROWTH = 1.25  # an interval without a standing queue, while the limit is in use
IN_USE = 0.5  # of the limit; below it nothing is learnt by raising it


class ConcurrencyLimit:
    """A number of claims between `least` and `most`; starts at `most`, so that an opening's burst is absorbed."""

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
        """Take in how long the oldest claim of a batch waited, and how many claims were under way then."""
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
        """Nothing stands: let more come, step by step."""
        self.value = min(self._most, int(self.value * GROWTH) + 1)
