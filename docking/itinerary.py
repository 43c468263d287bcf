"""Where an agent may go, as its owner signs it: in words, or as a tree of parts.

    from docking.itinerary import Alt, Itinerary, Loop, Roam, Seq, Stop, Way

    way = Way.read("alpha,(beta|gamma)*10")                    # names: a station finds their keys when it launches
    itinerary = Itinerary(Seq((Stop(alpha), Loop(10, Alt((Stop(beta), Stop(gamma)))))))
    driven = Itinerary(Seq((Stop(alpha, task="count"), Stop(beta, task="tell"))))  # stations call these exports
    anywhere = Itinerary(Seq((Stop(alpha), Roam(5, certified_by=ministry))))

The names are those of `agents.credentials`, whose modules `itinerary` and `ways` have the rules; here is where programs
import them from.
"""

from agents.credentials.fields import COUNT
from agents.credentials.itinerary import Alt, CertifiedStop, FreeStop, Itinerary, Loop, Opt, Seq, Set, Stop
from agents.credentials.keys import PublicKey
from agents.credentials.ways import Way, written

Certified = CertifiedStop
"""Any one station with a certificate by a key: `Certified(key)`."""


def Roam(hops: int = COUNT, certified_by: PublicKey | None = None) -> Opt:
    """Any stations, as many as are found on the way: `roam`, `(any*5)?` or `(any@KEY*5)?` as a way.

    hops: at most so many; the passport's own bound holds too
    certified_by: only those with a certificate by this key; None for all

    Raises `MalformedCredential` when it is made an itinerary with fewer than one hop.
    """
    return Opt(Loop(hops, FreeStop() if certified_by is None else CertifiedStop(certified_by)))


__all__ = [
    "Alt",
    "Certified",
    "CertifiedStop",
    "FreeStop",
    "Itinerary",
    "Loop",
    "Opt",
    "Roam",
    "Seq",
    "Set",
    "Stop",
    "Way",
    "written",
]
