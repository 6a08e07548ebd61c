"""What each kind of process may do in the ledger's server: the rules of its users, as `ACL SETUSER` takes them.

A server checks what a function does against whoever called it, so a user needs the commands that the functions use, and
not only FCALL. Fronts may touch the keys that functions receive, and can only read what is said to be recorded: a
front cannot call a confirmation recorded that is not. No user but `admin` can run a script, load another library over
ours by name alone, list or empty keys, or see and change the server's settings.
"""

from reservasi.ledger import keys

FRONT = "front"  # `reservasi api`
WORKER = "worker"  # `reservasi worker`: it loads the functions, records, trims and rebuilds
ADMIN = "admin"  # commands of the command line, and people
USERS = (FRONT, WORKER, ADMIN)
ANY = "*"  # as a program: every hash tag

CALLS = ("fcall", "fcall_ro")
# What is asked outside functions, also by redis-py when it connects and by whoever finds a cluster's primaries.
CONNECTION = ("auth", "hello", "ping", "quit", "reset", "select", "client|setinfo", "client|setname", "client|id")
TOPOLOGY = (
    "cluster|nodes",
    "cluster|slots",
    "cluster|shards",
    "cluster|myid",
    "asking",
    "readonly",
    "readwrite",
    "role",
    "info",
)
WAITING = ("wait", "waitaof")
SINCE_7_2 = ("client|setinfo", "waitaof")  # Redis 7.0 does not start with a rule about a command that it does not know
IN_FUNCTIONS = (
    *("hget", "hmget", "hgetall", "hkeys", "hexists", "hset", "hincrby", "hdel", "exists", "time", "xadd", "xrange"),
    *("zadd", "zrem", "zrange", "zrangebylex", "zrangebyscore", "zscore", "lindex", "lset", "rpush", "pexpireat"),
)
FOLLOWING = ("xread", "hscan", "smembers", "expire", "subscribe", "unsubscribe")
WORKING = (
    *("xtrim", "xrevrange", "xlen", "hlen", "sadd", "srem", "unlink", "publish", "multi", "exec", "discard"),
    "function|load",
)


def commands(user: str) -> tuple[str, ...]:
    """The commands that a user may give, by themselves or through a function; none for `admin`, who may give all."""
    shared = (*CALLS, *CONNECTION, *TOPOLOGY, *WAITING, *IN_FUNCTIONS, *FOLLOWING)
    return {FRONT: shared, WORKER: (*shared, *WORKING), ADMIN: ()}[user]


def rules(user: str, unknown: tuple[str, ...] = ()) -> str:
    """A user's rules, without the password and without commands that are `unknown` to the server."""
    allowed = " ".join(f"+{command}" for command in commands(user) if command not in unknown)
    channel = f"resetchannels &{keys.recorded_channel(ANY)}"
    match user:
        case "front":
            written = [*keys.program_keys(ANY), f"{keys.joined(ANY)}:*", keys.queue_delays(ANY)]
            read = [keys.recorded(ANY), keys.dead_letters(ANY)]
            patterns = [*(f"~{key}" for key in written), *(f"%R~{key}" for key in read)]
            return f"resetkeys {' '.join(patterns)} {channel} -@all {allowed}"
        case "worker":
            return f"resetkeys ~{{{ANY}}}:* {channel} -@all {allowed}"
        case _:
            return "allkeys allchannels +@all"


def acl_lines(password_rules: dict[str, str], *, unknown: tuple[str, ...] = ()) -> list[str]:
    """The lines of an ACL file; `password_rules` has for each user how it proves itself, such as `#<sha256>`.

    The default user, whom a connection without a password gets, is switched off. It keeps all rights: many servers,
    Redis 7.0 among them, replay their append-only file as that user, and would forget every change of a function at a
    restart. Commands that are `unknown` to the server are left out.
    """
    lines = ["user default off resetpass allkeys allchannels +@all"]
    return lines + [f"user {user} on {password_rules[user]} {rules(user, unknown)}" for user in USERS]
