"""The data types of ETSI GS MEC 021 as they stand in JSON: what clients send, and what they are told.

Not here: which of them exist (`docking.mec.book`) and what follows from them (`docking.mec.mobility`). Enumerations
are taken by name, as the OpenAPI description of version 2.1.1 has them, and by number, as the tables of the
specification and later descriptions have them; each client is answered in the form that it used. Invariants: every
text and list has a bound, and nothing is converted: `"5"` is no number; an attribute that is not ours is ignored.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from docking.mec.problems import Problem, bad_request

# The largest body of a request, bytes, and how much of it may be lists and texts.
MAX_BODY_BYTES = 64 << 10
MAX_DEVICES = MAX_ASSOCIATES = 64
MAX_TEXT, MAX_URI = 256, 2048
# Identifiers of resources, which become parts of paths.
IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SHOWN_ERRORS = 4

Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00-\x1f\x7f]+$")]
Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URI, pattern=r"^[\x21-\x7e]+$")]
Uint32 = Annotated[int, Field(ge=0, le=2**32 - 1)]


class AssociateType(enum.IntEnum):
    """What identifies a device (MEC 012, AssociateId)."""

    UE_IPv4_ADDRESS = 1
    UE_IPV6_ADDRESS = 2
    NATED_IP_ADDRESS = 3
    GTP_TEID = 4


class Level(enum.IntEnum):
    """What may be done with an application instance whose device moves (AppMobilityServiceLevel)."""

    APP_MOBILITY_NOT_ALLOWED = 1
    APP_MOBILITY_WITH_CONFIRMATION = 2
    APP_MOBILITY_WITHOUT_CONFIRMATION = 3


class Status(enum.IntEnum):
    """How far a move is (MobilityStatus)."""

    INTERHOST_MOVEOUT_TRIGGERED = 1
    INTERHOST_MOVEOUT_COMPLETED = 2
    INTERHOST_MOVEOUT_FAILED = 3


class Transfer(enum.IntEnum):
    """Whether the context of a device has been moved (contextTransferState)."""

    NOT_TRANSFERRED = 0
    USER_CONTEXT_TRANSFER_COMPLETED = 1


def _word(value: object) -> object:
    """A name or a number: `true` and `1.0` are equal to 1, and are neither."""
    if isinstance(value, (bool, float)):
        raise ValueError("a name or a number of the enumeration is needed")
    return value


_Word = BeforeValidator(_word)
AssociateTypeWord = Annotated[
    Literal["UE_IPv4_ADDRESS", "UE_IPV6_ADDRESS", "NATED_IP_ADDRESS", "GTP_TEID", 1, 2, 3, 4], _Word
]
LevelWord = Annotated[
    Literal["APP_MOBILITY_NOT_ALLOWED", "APP_MOBILITY_WITH_CONFIRMATION", "APP_MOBILITY_WITHOUT_CONFIRMATION", 1, 2, 3],
    _Word,
]
StatusWord = Annotated[
    Literal["INTERHOST_MOVEOUT_TRIGGERED", "INTERHOST_MOVEOUT_COMPLETED", "INTERHOST_MOVEOUT_FAILED", 1, 2, 3], _Word
]
TransferWord = Annotated[Literal["NOT_TRANSFERRED", "USER_CONTEXT_TRANSFER_COMPLETED", 0, 1], _Word]


class Model(BaseModel):
    """A data type of the specification."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", populate_by_name=True)

    def json_value(self) -> dict[str, Any]:
        """As plain values, with the names of the specification; what is absent is left out."""
        return self.model_dump(by_alias=True, exclude_none=True)


class TimeStamp(Model):
    """A time, as seconds since 1970 and the nanoseconds after them."""

    seconds: Uint32
    nanoSeconds: Uint32

    @property
    def milliseconds(self) -> int:
        """Milliseconds since 1970."""
        return self.seconds * 1000 + self.nanoSeconds // 1_000_000

    @classmethod
    def of(cls, milliseconds: int) -> TimeStamp:
        """The time that is so many milliseconds after 1970."""
        seconds, rest = divmod(max(0, milliseconds), 1000)
        return cls(seconds=min(seconds, 2**32 - 1), nanoSeconds=rest * 1_000_000)


class LinkType(Model):
    """A link."""

    href: Uri


class Links(Model):
    """The link of a resource to itself."""

    self_: LinkType = Field(alias="self")


class AssociateId(Model):
    """What identifies a device: an address, or the end of a tunnel."""

    type: AssociateTypeWord
    value: Text

    @property
    def key(self) -> tuple[int, str]:
        """What is equal for the same device, in whichever form its type was written."""
        return (AssociateType[self.type] if isinstance(self.type, str) else self.type), self.value


class ServiceConsumerId(Model):
    """Who registers: an application instance, or a MEC platform."""

    appInstanceId: Text | None = None
    mepId: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> ServiceConsumerId:
        if self.appInstanceId is None and self.mepId is None:
            raise ValueError("appInstanceId or mepId has to be given")
        return self


class DeviceInformation(Model):
    """A device that the registered application instance serves.

    `serviceConsumerId` is demanded here by the OpenAPI description of 2.1.1, and by no table of the specification: it
    is taken, and filled in in answers.
    """

    serviceConsumerId: ServiceConsumerId | None = None
    associateId: AssociateId
    appMobilityServiceLevel: LevelWord | None = None
    contextTransferState: TransferWord | None = None

    @property
    def level(self) -> Level:
        """What may be done with the instance; asking is right where nothing is said."""
        word = self.appMobilityServiceLevel
        if word is None:
            return Level.APP_MOBILITY_WITH_CONFIRMATION
        return Level[word] if isinstance(word, str) else Level(word)

    def transferred(self, state: Transfer) -> DeviceInformation:
        """The same with another `contextTransferState`, in the form in which its client writes enumerations."""
        numbers = isinstance(self.contextTransferState, int) or isinstance(self.associateId.type, int)
        return self.model_copy(update={"contextTransferState": int(state) if numbers else state.name})


class RegistrationInfo(Model):
    """An application mobility service that somebody registered."""

    appMobilityServiceId: Identifier | None = None
    serviceConsumerId: ServiceConsumerId
    deviceInformation: Annotated[list[DeviceInformation], Field(max_length=MAX_DEVICES)] | None = None
    expiryTime: Uint32 | None = None

    @property
    def devices(self) -> tuple[DeviceInformation, ...]:
        """The devices, none if none are given."""
        return tuple(self.deviceInformation or ())

    def complete(self) -> RegistrationInfo:
        """As it is told to clients: each device says who registered it."""
        if self.deviceInformation is None:
            return self
        filled = [
            each if each.serviceConsumerId else each.model_copy(update={"serviceConsumerId": self.serviceConsumerId})
            for each in self.deviceInformation
        ]
        return self.model_copy(update={"deviceInformation": filled})


class WebsockNotifConfig(Model):
    """Whether notifications are wanted over a WebSocket, and where that is."""

    websocketUri: Uri | None = None
    requestWebsocketUri: bool | None = None


class MobilityFilter(Model):
    """Which moves a subscriber wants to know of."""

    appInstanceId: Text | None = None
    associateId: Annotated[list[AssociateId], Field(max_length=MAX_ASSOCIATES)] | None = None
    mobilityStatus: Annotated[list[StatusWord], Field(max_length=8)] | None = None

    @property
    def statuses(self) -> frozenset[int]:
        """The statuses, as numbers."""
        return frozenset(Status[each] if isinstance(each, str) else each for each in self.mobilityStatus or ())


class AdjacentFilter(Model):
    """Whose neighbours a subscriber wants to know of."""

    appInstanceId: Text | None = None


class Subscription(Model):
    """What all subscriptions have."""

    links: Links | None = Field(default=None, alias="_links")
    callbackReference: Uri | None = None
    requestTestNotification: bool | None = None
    websockNotifConfig: WebsockNotifConfig | None = None
    expiryDeadline: TimeStamp | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Subscription:
        if self.callbackReference is None and not self.wants_websocket:
            raise ValueError("callbackReference, or a websockNotifConfig that requests a websocketUri, has to be given")
        return self

    @property
    def wants_websocket(self) -> bool:
        """Whether notifications are wanted over a WebSocket."""
        return self.websockNotifConfig is not None and bool(self.websockNotifConfig.requestWebsocketUri)


class MobilityProcedureSubscription(Subscription):
    """A subscription to the moves of application instances."""

    subscriptionType: Literal["MobilityProcedureSubscription"]
    filterCriteria: MobilityFilter

    def complete(self) -> MobilityProcedureSubscription:
        """With the default that the specification names: the beginnings of moves."""
        if self.filterCriteria.mobilityStatus:
            return self
        numbers = any(isinstance(each.type, int) for each in self.filterCriteria.associateId or ())
        first = Status.INTERHOST_MOVEOUT_TRIGGERED
        criteria = {"mobilityStatus": [int(first) if numbers else first.name]}
        return self.model_copy(update={"filterCriteria": self.filterCriteria.model_copy(update=criteria)})


class AdjacentAppInfoSubscription(Subscription):
    """A subscription to changes of the adjacent application instances."""

    subscriptionType: Literal["AdjacentAppInfoSubscription"]
    filterCriteria: AdjacentFilter

    def complete(self) -> AdjacentAppInfoSubscription:
        """It has no defaults."""
        return self


AnySubscription: TypeAlias = MobilityProcedureSubscription | AdjacentAppInfoSubscription
# Numbers of the kinds, in lists of links; and the words by which a list is filtered.
KIND_NUMBERS = {"MobilityProcedureSubscription": 1, "AdjacentAppInfoSubscription": 2}
KIND_WORDS = {
    "mobility_proc": "MobilityProcedureSubscription",
    "adj_app_info": "AdjacentAppInfoSubscription",
} | {kind: kind for kind in KIND_NUMBERS}  # fmt: skip

REGISTRATION: TypeAdapter[RegistrationInfo] = TypeAdapter(RegistrationInfo)
SUBSCRIPTION: TypeAdapter[AnySubscription] = TypeAdapter(
    Annotated[AnySubscription, Field(discriminator="subscriptionType")]
)


def parsed(adapter: TypeAdapter[Any], body: bytes) -> Any:
    """A body as the data type of `adapter`. Raises `Problem` (400) with what is wrong, never with what was sent."""
    try:
        # Depth and numbers are bounded here; the size of the body is, where it is read.
        value = from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError):
        raise bad_request("the body is not JSON") from None
    return checked(adapter, value)


def checked(adapter: TypeAdapter[Any], value: object) -> Any:
    """Plain values as the data type of `adapter`. Raises `Problem` (400)."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise _told(error) from None


def _told(error: ValidationError) -> Problem:
    found = []
    for each in error.errors(include_url=False, include_context=False, include_input=False)[:SHOWN_ERRORS]:
        place = ".".join(str(part) for part in each["loc"] if part not in KIND_NUMBERS)[:100]
        found.append(f"{place or 'the body'}: {each['msg'][:200]}")
    return bad_request("; ".join(found))
