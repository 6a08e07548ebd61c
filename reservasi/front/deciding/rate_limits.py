"""How often one person, one API key and one network may ask, counted in the front's own memory.

The algorithm is GCRA (the "leaky bucket as a meter", ITU-T Recommendation I.371, annex A): one number a key, its
theoretical arrival time, and one comparison a request. In any time t it lets `burst + rate * t` requests through and
no more. A refused request costs nothing of what is allowed later.
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

JITTER_S_MAX = 2  # added to Retry-After, so that the refused do not come back in one wave
BURST_SHARE_MIN = 10  # a connection stays with one process, and who repeats on it must not suffer from many cores
LOOK_KEYS = 16  # new keys between two looks for those that may be forgotten without a loss
_NS_PER_S = 1_000_000_000
_JITTER = random.SystemRandom()


class RateLimit:
    """One limit over many keys: `burst` requests at once, `per_s` in the long run; 0 a second is no limit.

    As new keys come, those of the longest unused that have their whole burst again are forgotten, which changes
    nothing: memory follows how many ask, not how many have asked. At most `keys_max` keys are remembered. When there is
    one more, and none that may be forgotten so, the longest unused one is, and begins anew with its whole burst. So a
    flood of new keys can make the limit milder, never the memory larger.
    """

    def __init__(
        self, per_s: float, burst: int, *, keys_max: int, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._period_ns = math.ceil(_NS_PER_S / per_s) if per_s else 0
        self._tolerance_ns = self._period_ns * (burst - 1)
        self._keys_max = keys_max
        self._clock_ns = clock_ns
        self._arrivals_ns: OrderedDict[Hashable, int] = OrderedDict()  # theoretical arrival times, last used last

    def __len__(self) -> int:
        return len(self._arrivals_ns)

    def take(self, key: Hashable) -> float:
        """0 when the request is allowed, which counts it; else the seconds until it would be."""
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

    def look(self, key: Hashable) -> float:
        """What `take` would return now, without counting anything."""
        arrival_ns = self._arrivals_ns.get(key, 0) if self._period_ns else 0
        return max(0, arrival_ns - self._clock_ns() - self._tolerance_ns) / _NS_PER_S

    def _forget(self, now_ns: int) -> None:
        if not self._forget_whole(now_ns):
            self._arrivals_ns.popitem(last=False)

    def _forget_whole(self, now_ns: int) -> int:
        """Forget those of the longest unused that have their whole burst; more at a time than come in between."""
        longest_unused = islice(self._arrivals_ns.items(), 2 * LOOK_KEYS)
        whole = [key for key, arrival_ns in longest_unused if arrival_ns <= now_ns]
        for key in whole:
            del self._arrivals_ns[key]
        return len(whole)


class RateLimits:
    """The limits of one front process.

    A person and a staff key mostly keep to one connection, and so to one front: each front lets them have their whole
    rate. A network comes over many connections: its rate, and its burst down to `BURST_SHARE_MIN`, are divided among
    the fronts of this machine.
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
        """Seconds that the caller's network must wait, 0 when it need not; callers that nobody names have no limit.

        `peer` is the other end of the connection, `forwarded` every X-Forwarded-For line.
        """
        network = self._networks.network(peer, forwarded)
        return 0.0 if network == NOBODY else self._by_network.take(network)

    def people(self, persons: Sequence[str]) -> float:
        """Seconds until all of them may claim together, 0 when they may now, which counts for each, a replay as well.

        By their keyed hashes, others in each program. Where one must wait, it costs nobody anything.
        """
        if len(persons) == 1:
            return self._people.take(persons[0])
        return max(map(self._people.look, persons)) or max(map(self._people.take, persons))

    def api_key(self, key: Hashable) -> float:
        """Seconds that whoever has the API key must wait; `key` tells keys apart and is not the secret itself."""
        return self._api_keys.take(key)

    def check_network(self, peer: str, forwarded: Sequence[str]) -> None:
        """Count a request of a network.

        Raises:
            Refused: it asks too often.
        """
        wait_s = self.network(peer, forwarded)
        if wait_s:
            raise too_often("network", wait_s)

    def check_api_key(self, key: Hashable) -> None:
        """Count a call of staff, by what `api_key` takes.

        Raises:
            Refused: the key is used too often.
        """
        wait_s = self.api_key(key)
        if wait_s:
            raise too_often("api_key", wait_s)


def too_often(kind: str, wait_s: float) -> Refused:
    """The refusal, counted, of a person, a network or an API key that must wait so long."""
    REFUSALS.labels(kind).inc()
    return Refused(RATE_LIMITED, headers={"Retry-After": str(math.ceil(wait_s) + _JITTER.randint(0, JITTER_S_MAX))})
