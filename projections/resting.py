"""How long whoever looks for news rests after a look, so that what comes meanwhile is one look."""

RESTS = 3.0  # so many times as long as it took: a busy machine has more to spare for who talks
MAX_REST_S = 0.05


def rest_s(took_s: float) -> float:
    """Seconds to rest after something that took so many."""
    return min(RESTS * took_s, MAX_REST_S)
