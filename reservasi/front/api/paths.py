"""The paths that more than their operation's declaration names."""

LIMITED_PATHS = "/v1/"  # what the limit of a network covers; it does not cover the description of the API
CLAIM_PATH = "/v1/reservations"
TICKETS_PATH = "/v1/openings/{id}/tickets"
OPENING_PATH = "/v1/openings/{id}"
PROBLEM_PATH = "/problems/{type}"
OPENINGS_PAGE, OPENING_PAGE = "/openings", "/openings/{id}"
STATIC_PATH = "/static/{version}/{name}"


def problem_type_uri(name: str) -> str:
    """The `type` of a problem, and where it is described."""
    return PROBLEM_PATH.replace("{type}", name)
