"""How long whoever looks for news rests after a look, so that what comes meanwhile is one look."""

import time

RESTS = 3.0  # so many times as long as it took: a busy machine has more to spare for who talks
MAX_REST_S = 0.05
REST_S_PER_EVENT = 0.005  # so from 200 events a second on, rests grow until they are whole ticks
TICK_S = 0.2  # 5 transactions a second of each view, however much is said


def rest_s(took_s: float, events: int = 0) -> float:
    """Seconds to rest after something that took so many, and has found so many events.

    Those who find many rest until the next tick of one clock: then they all want the same events at
    the same time, and one read of the log is enough.
    """
    wanted_s = events * REST_S_PER_EVENT
    if wanted_s >= TICK_S:
        return TICK_S - time.monotonic() % TICK_S
    return max(min(RESTS * took_s, MAX_REST_S), wanted_s - took_s)
