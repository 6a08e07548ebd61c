"""Paths that are used outside the declaration of their operation."""

LIMITED_PATHS = "/v1/"  # paths covered by the network limit; not those of the API's description
CLAIM_PATH = "/v1/reservations"
TICKETS_PATH = "/v1/openings/{id}/tickets"
OPENING_PATH = "/v1/openings/{id}"
PROBLEM_PATH = "/problems/{type}"
OPENINGS_PAGE, OPENING_PAGE = "/openings", "/openings/{id}"
STATIC_PATH = "/static/{version}/{name}"


def problem_type_uri(name: str) -> str:
    """The `type` of a problem, which is also the address of its description."""
    return PROBLEM_PATH.replace("{type}", name)
