# mypy: ignore-errors
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("scenario", "controller", "bundle_sha256", "bundle_name", "ready", "draining", "configuration", "target", "transition_running", "trouble", "time_s", "interval_s", "w", "sla_ms", "intensity_g_per_kwh", "intervals", "transitions", "live_trials", "guard_interventions", "predicted_p95_ms", "predicted_power_w", "last", "instances", "previous_controller", "intensity_kind", "transition")
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_RUNNING_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    SLA_MS_FIELD_NUMBER: _ClassVar[int]
    INTENSITY_G_PER_KWH_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    LIVE_TRIALS_FIELD_NUMBER: _ClassVar[int]
    GUARD_INTERVENTIONS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_P95_MS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_POWER_W_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    INTENSITY_KIND_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_FIELD_NUMBER: _ClassVar[int]
    scenario: str
    controller: str
    bundle_sha256: str
    bundle_name: str
    ready: bool
    draining: bool
    configuration: str
    target: str
    transition_running: bool
    trouble: str
    time_s: float
    interval_s: float
    w: float
    sla_ms: float
    intensity_g_per_kwh: float
    intervals: int
    transitions: int
    live_trials: int
    guard_interventions: int
    predicted_p95_ms: float
    predicted_power_w: float
    last: Interval
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    previous_controller: str
    intensity_kind: str
    transition: Transition
    def __init__(self, scenario: _Optional[str] = ..., controller: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., bundle_name: _Optional[str] = ..., ready: _Optional[bool] = ..., draining: _Optional[bool] = ..., configuration: _Optional[str] = ..., target: _Optional[str] = ..., transition_running: _Optional[bool] = ..., trouble: _Optional[str] = ..., time_s: _Optional[float] = ..., interval_s: _Optional[float] = ..., w: _Optional[float] = ..., sla_ms: _Optional[float] = ..., intensity_g_per_kwh: _Optional[float] = ..., intervals: _Optional[int] = ..., transitions: _Optional[int] = ..., live_trials: _Optional[int] = ..., guard_interventions: _Optional[int] = ..., predicted_p95_ms: _Optional[float] = ..., predicted_power_w: _Optional[float] = ..., last: _Optional[_Union[Interval, _Mapping]] = ..., instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., previous_controller: _Optional[str] = ..., intensity_kind: _Optional[str] = ..., transition: _Optional[_Union[Transition, _Mapping]] = ...) -> None: ...

class Transition(_message.Message):
    __slots__ = ("number", "source", "target", "steps", "steps_done", "tries", "outcome", "trouble", "seconds")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEPS_DONE_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    number: int
    source: str
    target: str
    steps: int
    steps_done: int
    tries: int
    outcome: str
    trouble: str
    seconds: float
    def __init__(self, number: _Optional[int] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., steps: _Optional[int] = ..., steps_done: _Optional[int] = ..., tries: _Optional[int] = ..., outcome: _Optional[str] = ..., trouble: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("key", "variant", "state", "restarts")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    key: str
    variant: str
    state: str
    restarts: int
    def __init__(self, key: _Optional[str] = ..., variant: _Optional[str] = ..., state: _Optional[str] = ..., restarts: _Optional[int] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("start_s", "duration_s", "controller", "scored", "intensity_g_per_kwh", "arrived", "answered", "timed_out", "failed", "p95_ms", "accuracy", "energy_j", "energy_kind", "carbon_g", "base_carbon_g", "reward", "configuration", "transitions", "sla_ms", "w", "answered_by_variant", "embodied_g_per_request", "sci_g_per_request")
    class AnsweredByVariantEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    START_S_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    SCORED_FIELD_NUMBER: _ClassVar[int]
    INTENSITY_G_PER_KWH_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    P95_MS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    ENERGY_KIND_FIELD_NUMBER: _ClassVar[int]
    CARBON_G_FIELD_NUMBER: _ClassVar[int]
    BASE_CARBON_G_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    SLA_MS_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_VARIANT_FIELD_NUMBER: _ClassVar[int]
    EMBODIED_G_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    SCI_G_PER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    start_s: float
    duration_s: float
    controller: str
    scored: bool
    intensity_g_per_kwh: float
    arrived: int
    answered: int
    timed_out: int
    failed: int
    p95_ms: float
    accuracy: float
    energy_j: float
    energy_kind: str
    carbon_g: float
    base_carbon_g: float
    reward: float
    configuration: str
    transitions: int
    sla_ms: float
    w: float
    answered_by_variant: _containers.ScalarMap[str, int]
    embodied_g_per_request: float
    sci_g_per_request: float
    def __init__(self, start_s: _Optional[float] = ..., duration_s: _Optional[float] = ..., controller: _Optional[str] = ..., scored: _Optional[bool] = ..., intensity_g_per_kwh: _Optional[float] = ..., arrived: _Optional[int] = ..., answered: _Optional[int] = ..., timed_out: _Optional[int] = ..., failed: _Optional[int] = ..., p95_ms: _Optional[float] = ..., accuracy: _Optional[float] = ..., energy_j: _Optional[float] = ..., energy_kind: _Optional[str] = ..., carbon_g: _Optional[float] = ..., base_carbon_g: _Optional[float] = ..., reward: _Optional[float] = ..., configuration: _Optional[str] = ..., transitions: _Optional[int] = ..., sla_ms: _Optional[float] = ..., w: _Optional[float] = ..., answered_by_variant: _Optional[_Mapping[str, int]] = ..., embodied_g_per_request: _Optional[float] = ..., sci_g_per_request: _Optional[float] = ...) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class ActivateRequest(_message.Message):
    __slots__ = ("controller",)
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    controller: str
    def __init__(self, controller: _Optional[str] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ActivationResponse(_message.Message):
    __slots__ = ("controller", "bundle_sha256", "bundle_name", "previous_controller", "warnings", "parity_vectors", "near_ties")
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    PARITY_VECTORS_FIELD_NUMBER: _ClassVar[int]
    NEAR_TIES_FIELD_NUMBER: _ClassVar[int]
    controller: str
    bundle_sha256: str
    bundle_name: str
    previous_controller: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    parity_vectors: int
    near_ties: int
    def __init__(self, controller: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., bundle_name: _Optional[str] = ..., previous_controller: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., parity_vectors: _Optional[int] = ..., near_ties: _Optional[int] = ...) -> None: ...

class IntervalsRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class IntervalsResponse(_message.Message):
    __slots__ = ("intervals",)
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    intervals: _containers.RepeatedCompositeFieldContainer[Interval]
    def __init__(self, intervals: _Optional[_Iterable[_Union[Interval, _Mapping]]] = ...) -> None: ...
