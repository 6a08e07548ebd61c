"""Rate limits: never more than allowed in any window, bounded memory, and whose request it is."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservasi.front.api.operations import OPERATIONS
from reservasi.front.api.paths import LIMITED_PATHS
from reservasi.front.api.problem_catalogue import RATE_LIMITED
from reservasi.front.api.problems import Refused
from reservasi.front.deciding.rate_limits import BURST_SHARE_MIN, JITTER_S_MAX, LOOK_KEYS, RateLimit, RateLimits
from reservasi.front.http.client_networks import Networks
from reservasi.sealing import Sealing, create_key_ring
from reservasi.settings import LOOPBACK, Settings

S = 1_000_000_000  # nanoseconds
FOREVER_PER_S = 0.001  # so slow that nothing comes back while a test runs


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 5 * S

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


# -- one limit ---------------------------------------------------------------------------------------------------

rates = st.floats(0.01, 1_000_000) | st.integers(1, 1000).map(float)
pauses = st.lists(st.integers(0, 3 * S) | st.integers(0, 1000) | st.just(0), max_size=60)


@given(rates, st.integers(1, 30), pauses)
def test_no_window_lets_more_through_than_burst_and_rate(per_s: float, burst: int, pauses_ns: list[int]) -> None:
    clock = Clock()
    limit = RateLimit(per_s, burst, keys_max=10, clock_ns=clock)
    allowed: list[int] = []
    for pause_ns in pauses_ns:
        clock.now_ns += pause_ns
        if not limit.take("somebody"):
            allowed.append(clock.now_ns)
    for first, begin_ns in enumerate(allowed):
        for last, end_ns in enumerate(allowed[first:], first):
            assert last - first + 1 <= burst + (end_ns - begin_ns) / S * per_s + 1e-9


@given(rates, st.integers(1, 30), pauses)
def test_the_wait_is_exact_and_the_refused_lose_nothing_by_asking(
    per_s: float, burst: int, pauses_ns: list[int]
) -> None:
    clock = Clock()
    asked_often, asked_well = (RateLimit(per_s, burst, keys_max=10, clock_ns=clock) for _ in range(2))
    for pause_ns in pauses_ns:
        clock.now_ns += pause_ns
        wait_s = asked_often.take("somebody")
        if wait_s:
            wait_ns = round(wait_s * S)
            clock.now_ns += wait_ns - 1
            assert asked_often.take("somebody") > 0
            clock.now_ns += 1
            assert asked_often.take("somebody") == 0
        assert asked_well.take("somebody") == 0


@given(rates, st.integers(1, 30))
def test_whoever_was_quiet_for_long_has_the_whole_burst(per_s: float, burst: int) -> None:
    clock = Clock()
    limit = RateLimit(per_s, burst, keys_max=10, clock_ns=clock)
    for _ in range(3):
        assert [limit.take("somebody") > 0 for _ in range(burst + 2)] == [False] * burst + [True] * 2
        clock.now_ns += math.ceil(burst / per_s * S) + burst


def test_keys_do_not_share(clock: Clock) -> None:
    limit = RateLimit(1.0, 1, keys_max=10, clock_ns=clock)
    assert [limit.take(key) for key in "abca"] == [0, 0, 0, 1]


def test_no_rate_is_no_limit(clock: Clock) -> None:
    limit = RateLimit(0.0, 1, keys_max=10, clock_ns=clock)
    assert not any(limit.take("somebody") for _ in range(1000))
    assert len(limit) == 0


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 200), st.integers(0, S)), max_size=300))
def test_memory_is_bounded_whoever_comes(keys_max: int, requests: Sequence[tuple[int, int]]) -> None:
    clock = Clock()
    limit = RateLimit(2.0, 3, keys_max=keys_max, clock_ns=clock)
    for key, pause_ns in requests:
        clock.now_ns += pause_ns
        limit.take(key)
        assert len(limit) <= keys_max


def test_memory_follows_how_many_ask_and_not_how_many_have_asked(clock: Clock) -> None:
    limit = RateLimit(1.0, 5, keys_max=100_000, clock_ns=clock)
    for number in range(50_000):
        clock.now_ns += S // 1000
        assert limit.take(number) == 0
        if not number % 100:
            limit.take(f"twice {number}")
            limit.take(f"twice {number}")  # needs longer until it may be forgotten, and holds nobody else up
    assert len(limit) < 1200


def test_forgetting_begins_with_those_who_lose_nothing(clock: Clock) -> None:
    limit = RateLimit(1.0, 5, keys_max=LOOK_KEYS, clock_ns=clock)
    for _ in range(5):
        limit.take("busy")
    for key in range(LOOK_KEYS - 1):
        limit.take(key)
    clock.now_ns += 2 * S  # everybody's request is forgiven but those of the busy one, who is the longest unused
    limit.take("new")
    assert len(limit) == 2
    assert [limit.take("busy") > 0 for _ in range(3)] == [False, False, True]


def test_then_the_longest_unused_begins_anew(clock: Clock) -> None:
    limit = RateLimit(1.0, 1, keys_max=3, clock_ns=clock)
    for key in "abc":
        limit.take(key)
    assert limit.take("a") > 0  # a refusal is a use as well
    limit.take("d")
    assert len(limit) == 3
    assert limit.take("a") > 0
    assert limit.take("b") == 0


# -- the limits of a front ---------------------------------------------------------------------------------------


def front_limits(clock: Clock, **changes: object) -> RateLimits:
    settings = Settings(**{"processes": 1, **changes})  # type: ignore[arg-type]
    networks = Networks(settings.trusted_proxies, prefix_v4=24, prefix_v6=56)
    return RateLimits(settings, networks, clock_ns=clock)


def test_a_front_has_its_share(clock: Clock) -> None:
    limits = front_limits(clock, processes=4, rate_network_per_s=100, rate_network_burst=400)
    assert [limits.network("203.0.113.1", []) > 0 for _ in range(101)] == [False] * 100 + [True]
    assert limits.network("203.0.113.1", []) == pytest.approx(1 / 25)


def test_many_fronts_leave_a_network_enough_on_one_connection(clock: Clock) -> None:
    limits = front_limits(clock, processes=64, rate_network_burst=64)
    refusals = [limits.network("203.0.113.1", []) > 0 for _ in range(BURST_SHARE_MIN + 1)]
    assert refusals.count(False) == BURST_SHARE_MIN


def test_a_person_has_their_whole_rate_in_each_front(clock: Clock) -> None:
    limits = front_limits(clock, processes=64, rate_person_burst=20)
    assert [limits.people(["a"]) > 0 for _ in range(21)] == [False] * 20 + [True]


def test_a_person_is_counted_by_program(clock: Clock) -> None:
    limits = front_limits(clock, rate_person_burst=1)
    person = Sealing(create_key_ring()).person
    persons = [person("p", "3578014107900001"), person("q", "3578014107900001"), person("p", "3578014107900002")]
    assert [limits.people([each]) for each in persons] == [0, 0, 0]
    assert limits.people([persons[0]]) == 1


def test_every_person_of_a_group_is_counted(clock: Clock) -> None:
    limits = front_limits(clock, rate_person_burst=1)
    assert limits.people(["a", "b"]) == 0
    for group in (["b"], ["a"], ["c", "a"]):
        assert limits.people(group) > 0
    assert limits.people(["c"]) == 0  # whom a refusal of others cost nothing


def test_a_group_waits_for_the_one_who_must_wait_longest(clock: Clock) -> None:
    limits = front_limits(clock, rate_person_per_s=1, rate_person_burst=2)
    for person in ("a", "b", "b"):
        assert limits.people([person]) == 0
    assert limits.people(["a", "b"]) == limits.people(["b", "a"]) == 1
    clock.now_ns += 10**9
    assert limits.people(["a", "b"]) == 0
    assert limits.people(["b"]) == 1


def test_retry_after_is_rounded_up_and_jittered(clock: Clock) -> None:
    limits = front_limits(clock, rate_api_key_per_s=0.4, rate_api_key_burst=1)
    limits.check_api_key(7)
    delays = set()
    for _ in range(200):
        with pytest.raises(Refused) as caught:
            limits.check_api_key(7)
        assert caught.value.kind is RATE_LIMITED
        delays.add(caught.value.headers["Retry-After"])
    assert delays == {str(seconds) for seconds in range(3, 3 + JITTER_S_MAX + 1)}  # 2.5 s, rounded up


def test_nobody_has_no_limit(clock: Clock) -> None:
    limits = front_limits(clock, rate_network_per_s=FOREVER_PER_S, rate_network_burst=1)
    for _ in range(10):
        limits.check_network("127.0.0.1", [])
        limits.check_network("", [])
        limits.check_network("::1", ["unknown"])
    limits.check_network("127.0.0.1", ["198.51.100.1"])
    with pytest.raises(Refused):
        limits.check_network("127.0.0.1", ["198.51.100.1"])


def test_every_limited_operation_says_so() -> None:
    for operation in OPERATIONS:
        assert (RATE_LIMITED in operation.problems) == operation.path.startswith(LIMITED_PATHS)


# -- who asks ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks() -> Networks:
    trusted = Settings(trusted_proxies="127.0.0.0/8, ::1/128, 10.0.0.0/8").trusted_proxies
    return Networks(trusted, prefix_v4=24, prefix_v6=56)


@pytest.mark.parametrize(
    ("peer", "forwarded", "network", "host"),
    [
        ("203.0.113.9", [], "203.0.113.0/24", "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.0/24", "203.0.113.9"),  # anybody may write that
        ("::ffff:203.0.113.9", [], "203.0.113.0/24", "203.0.113.9"),
        ("2001:db8:1:2ff:3::4", [], "2001:db8:1:200::/56", "2001:db8:1:2ff::/64"),
        ("fe80::1%eth0", [], "fe80::/56", "fe80::/64"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.0/24", "198.51.100.1"),
        ("::ffff:127.0.0.1", ["198.51.100.1"], "198.51.100.0/24", "198.51.100.1"),
        ("::1", ["2001:db8::1"], "2001:db8::/56", "2001:db8::/64"),
        ("127.0.0.1", ["192.0.2.1, 198.51.100.1"], "198.51.100.0/24", "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1", "198.51.100.1"], "198.51.100.0/24", "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1,198.51.100.1,10.1.2.3", "10.0.0.1"], "198.51.100.0/24", "198.51.100.1"),
        ("127.0.0.1", ["198.51.100.1, ,", ""], "198.51.100.0/24", "198.51.100.1"),
        ("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.0/24", "198.51.100.1"),
        ("127.0.0.1", ["[2001:db8::1]:443"], "2001:db8::/56", "2001:db8::/64"),
        ("127.0.0.1", [], "", "127.0.0.1"),
        ("127.0.0.1", [""], "", "127.0.0.1"),
        ("127.0.0.1", ["10.1.1.1"], "", "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1, unknown"], "", "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1, " + "9" * 100], "", "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.999"], "", "127.0.0.1"),
        ("", ["198.51.100.1"], "198.51.100.0/24", "198.51.100.1"),  # a local socket
        ("", [], "", ""),
    ],
)
def test_the_caller_is_the_last_one_that_no_proxy_of_ours_is(
    networks: Networks, peer: str, forwarded: list[str], network: str, host: str
) -> None:
    assert networks.network(peer, forwarded) == network
    assert networks.host(peer, forwarded) == host


@given(st.ip_addresses(), st.lists(st.text(max_size=80), max_size=4))
def test_what_the_header_says_never_helps_who_is_no_proxy(address: object, forwarded: list[str]) -> None:
    networks = Networks(LOOPBACK, prefix_v4=24, prefix_v6=56)
    peer = str(address)
    network = networks.network(peer, forwarded)
    if networks.network(peer, ["192.0.2.1"]) != "192.0.2.0/24":
        assert network == networks.network(peer, [])


@given(st.ip_addresses(v=4), st.lists(st.text(max_size=30), max_size=4))
def test_what_a_caller_wrote_does_not_count_beside_what_the_proxy_added(address: object, written: list[str]) -> None:
    networks = Networks(LOOPBACK, prefix_v4=32, prefix_v6=56)
    if networks.network(str(address), []) and not str(address).startswith("127."):
        forwarded = [*written[:-1], ",".join([*written[-1:], str(address)])]
        assert networks.network("127.0.0.1", forwarded) == f"{address}/32"


@pytest.mark.parametrize("value", ["10.0.0.1/8", "x", "10.0.0.0/33", ["10.0.0.1/8"]])
def test_a_proxy_that_is_no_network_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        Settings(trusted_proxies=value)


def test_proxies_pass_from_process_to_process() -> None:
    settings = Settings(trusted_proxies=["10.0.0.0/8", " ::1 "])
    proxies = settings.model_dump(mode="json")["trusted_proxies"]
    assert proxies == "10.0.0.0/8,::1/128"
    assert Settings(trusted_proxies=proxies).trusted_proxies == settings.trusted_proxies
    assert Settings(trusted_proxies="").trusted_proxies == ()
