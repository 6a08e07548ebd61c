"""Rate limits of persons, API keys and networks, in the front's own memory.

The algorithm is GCRA (the "leaky bucket as a meter", ITU-T Recommendation I.371, annex A): one number per key, its
theoretical arrival time, and one comparison per request. In any time t it admits at most `burst + rate * t` requests. A
refused request does not reduce later allowance.
"""

import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from itertools import islice

from reservasi.front.api.problem_catalogue import RATE_LIMITED
from reservasi.front.api.problems import Refused
from reservasi.front.http.client_networks import NOBODY, Networks
from reservasi.metrics import RATE_LIMITED as REFUSALS
from reservasi.settings import Settings

JITTER_S_MAX = 2  # added to Retry-After, so that refused callers do not return at the same time
BURST_SHARE_MIN = 10  # of a network per process, since a client's connection stays with one process
LOOK_KEYS = 16  # new keys between two checks for keys that can be dropped without an effect
_NS_PER_S = 1_000_000_000
_JITTER = random.SystemRandom()


class RateLimit:
    """One limit over many keys: bursts of `burst` requests, `per_s` sustained; 0 per second is no limit.

    When new keys arrive, the longest unused ones with a full burst are dropped, which has no effect: memory follows the
    number of active keys. At most `keys_max` keys are kept. If there is one more and none can be dropped without an
    effect, the longest unused one is dropped and starts again with a full burst. A flood of new keys can therefore
    weaken the limit, but not use more memory.
    """

    def __init__(
        self, per_s: float, burst: int, *, keys_max: int, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._period_ns = math.ceil(_NS_PER_S / per_s) if per_s else 0
        self._tolerance_ns = self._period_ns * (burst - 1)
        self._keys_max = keys_max
        self._clock_ns = clock_ns
        # theoretical arrival times, least recently used first
        self._arrivals_ns: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrivals_ns)

    def take(self, key: Hashable) -> float:
        """0 if the request is allowed, which counts it; else the seconds until it would be."""
        if not self._period_ns:
            return 0.0
        now_ns = self._clock_ns()
        arrivals = self._arrivals_ns
        arrival_ns = arrivals.get(key)
        if arrival_ns is None:
            if len(arrivals) >= self._keys_max:
                self._forget(now_ns)
            arrivals[key] = now_ns + self._period_ns
            if not len(arrivals) % LOOK_KEYS:
                self._forget_whole(now_ns)
            return 0.0
        arrivals.move_to_end(key)
        wait_ns = arrival_ns - now_ns - self._tolerance_ns
        if wait_ns > 0:
            return wait_ns / _NS_PER_S
        arrivals[key] = max(arrival_ns, now_ns) + self._period_ns
        return 0.0

    def peek(self, key: Hashable) -> float:
        """What `take` would return now, without counting."""
        arrival_ns = self._arrivals_ns.get(key, 0) if self._period_ns else 0
        return max(0, arrival_ns - self._clock_ns() - self._tolerance_ns) / _NS_PER_S

    def _forget(self, now_ns: int) -> None:
        if not self._forget_whole(now_ns):
            self._arrivals_ns.popitem(last=False)

    def _forget_whole(self, now_ns: int) -> int:
        """Drop some of the longest unused keys with a full burst, more than are added between two calls."""
        longest_unused = islice(self._arrivals_ns.items(), 2 * LOOK_KEYS)
        whole = [key for key, arrival_ns in longest_unused if arrival_ns <= now_ns]
        for key in whole:
            del self._arrivals_ns[key]
        return len(whole)


class RateLimits:
    """The limits of one front process.

    A person and a staff key mostly use one connection, and so one front: each front allows them the full rate. A
    network uses many connections: its rate, and its burst down to `BURST_SHARE_MIN`, are divided among the fronts of
    this machine.
    """

    def __init__(
        self, settings: Settings, networks: Networks, *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        def limit(per_s: float, burst: int) -> RateLimit:
            return RateLimit(per_s, burst, keys_max=settings.rate_keys_max, clock_ns=clock_ns)

        fronts, burst = settings.front_processes, settings.rate_network_burst
        self._networks = networks
        self._people = limit(settings.rate_person_per_s, settings.rate_person_burst)
        self._api_keys = limit(settings.rate_api_key_per_s, settings.rate_api_key_burst)
        self._by_network = limit(
            settings.rate_network_per_s / fronts, max(burst // fronts, min(burst, BURST_SHARE_MIN))
        )

    def network(self, peer: str, forwarded: Sequence[str]) -> float:
        """Seconds that the caller's network must wait, or 0; a caller without an address has no limit.

        `peer` is the other end of the connection, `forwarded` every X-Forwarded-For line.
        """
        network = self._networks.network(peer, forwarded)
        return 0.0 if network == NOBODY else self._by_network.take(network)

    def people(self, persons: Sequence[str]) -> float:
        """Seconds until all persons may claim together, or 0 if they may now, which counts for each, also for a replay.

        By their keyed hashes, which differ between programs. If one must wait, none is counted.
        """
        if len(persons) == 1:
            return self._people.take(persons[0])
        return max(map(self._people.peek, persons)) or max(map(self._people.take, persons))

    def api_key(self, key: Hashable) -> float:
        """Seconds that the user of an API key must wait; `key` identifies the key and is not the secret itself."""
        return self._api_keys.take(key)

    def check_network(self, peer: str, forwarded: Sequence[str]) -> None:
        """Count a request of a network.

        Raises:
            Refused: it exceeds its limit.
        """
        wait_s = self.network(peer, forwarded)
        if wait_s:
            raise too_often("network", wait_s)

    def check_api_key(self, key: Hashable) -> None:
        """Count a call of staff, by the `key` of `api_key`.

        Raises:
            Refused: the key exceeds its limit.
        """
        wait_s = self.api_key(key)
        if wait_s:
            raise too_often("api_key", wait_s)


def too_often(kind: str, wait_s: float) -> Refused:
    """Count and return the refusal of a person, a network or an API key that must wait."""
    REFUSALS.labels(kind).inc()
    return Refused(RATE_LIMITED, headers={"Retry-After": str(math.ceil(wait_s) + _JITTER.randint(0, JITTER_S_MAX))})
