"""Where an agent may go, as its owner signs it: in words, or as a tree of parts.

    from docking.itinerary import Alt, Itinerary, Loop, Seq, Stop, Way

    way = Way.read("alpha,(beta|gamma)*10")                    # names: a station finds their keys when it launches
    itinerary = Itinerary(Seq((Stop(alpha), Loop(10, Alt((Stop(beta), Stop(gamma)))))))

The names are those of `agents.credentials`, whose modules `itinerary` and `ways` have the rules; here is where programs
import them from.
"""

from agents.credentials.itinerary import Alt, CertifiedStop, FreeStop, Itinerary, Loop, Opt, Seq, Set, Stop
from agents.credentials.ways import Way, written

__all__ = ["Alt", "CertifiedStop", "FreeStop", "Itinerary", "Loop", "Opt", "Seq", "Set", "Stop", "Way", "written"]
