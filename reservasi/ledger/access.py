"""What each kind of process may do in the ledger's server: rules of its users for `ACL SETUSER`.

A server checks the commands inside a function against the calling user, so that a user needs the commands that the
functions use, not only FCALL. Fronts may access the keys that functions receive, and may only read the recorded
position: a front cannot report a confirmation as recorded that is not. Only `admin` can run scripts, replace a library,
list or delete all keys, or read and change the server's settings.
"""

from reservasi.ledger import keys

FRONT = "front"  # `reservasi api`
WORKER = "worker"  # `reservasi worker`: it loads the functions, records, trims and rebuilds
ADMIN = "admin"  # commands of the command line, and operators
USERS = (FRONT, WORKER, ADMIN)
ANY = "*"  # in place of a program: every hash tag

CALLS = ("fcall", "fcall_ro")
# Commands outside functions, including those of redis-py on connecting and of finding a cluster's primaries.
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
SINCE_7_2 = ("client|setinfo", "waitaof")  # Redis 7.0 does not start if a rule names an unknown command
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
    """The commands that a user may call directly or through a function; empty for `admin`, who may call all."""
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
    """The lines of an ACL file; `password_rules` has each user's password rule, such as `#<sha256>`.

    The default user, which a connection without a password gets, is switched off. It keeps all rights: many servers,
    including Redis 7.0, replay their append-only file as that user, and would lose every change of a function at a
    restart. Commands that are `unknown` to the server are left out.
    """
    lines = ["user default off resetpass allkeys allchannels +@all"]
    return lines + [f"user {user} on {password_rules[user]} {rules(user, unknown)}" for user in USERS]
