"""The open episode: how it begins, goes on step by step, is held, and ends in the spool.

It keeps no lock and asks no lease: the session does, before it calls.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from robot_bridge.conventions import F32, checked_action
from robot_bridge.episode import LIMITS_KEY, Manifest, ManifestLabel, Outcome
from robot_bridge.errors import (
    DriverDisconnected,
    DriverError,
    IdempotencyMismatch,
    UnknownEpisode,
    UnknownOutcome,
)
from robot_bridge.protocol import EpisodeRequest, StepAnswer, StepsAnswer, StepsRequest
from robot_bridge.safety import HELD, SafetyPipeline
from robot_bridge.station.admission import limits_of
from robot_bridge.station.deadman import DeadMan
from robot_bridge.station.keeper import ArmKeeper
from robot_bridge.station.parts import Station
from robot_bridge.station.recording import Circumstances, Ending, Recording

log = logging.getLogger(__name__)

DROPPED_MAX: Final = 200  # ids of episodes without a step whose end is remembered


class EpisodeRunner:
    """At most one episode is open. `dropped` says how those ended that never took a step."""

    def __init__(self, keeper: ArmKeeper, station: Station) -> None:
        self.recording: Recording | None = None
        self.judging = False
        self.dropped: dict[str, Outcome] = {}
        self._keeper, self._station = keeper, station
        policy = station.policy
        self._stepped = DeadMan(
            hold_after_s=policy.hold_after_ms / 1000.0, abort_after_s=policy.abort_after_s
        )
        self._callback = DeadMan(  # the run itself asks again and gives up sooner: this is for one that hangs
            hold_after_s=policy.act_timeout_s, abort_after_s=policy.act_timeout_s + policy.abort_after_s
        )

    def open(self, request: EpisodeRequest, *, fence: int) -> Recording:
        """Reset the scene and wait for the first step.

        Raises:
            UnknownTask, LimitsViolation, DriverError: nothing is open.
        """
        keeper, station = self._keeper, self._station
        robot = keeper.description
        pipeline = SafetyPipeline(limits_of(robot, request), arm=keeper.arm, control_hz=robot.control_hz)
        facts = request.model_dump(mode="json", include={"task_id", "seed"})
        station.spool.open(request.episode_id, {**facts, "fence": fence})
        keeper.episode_id = request.episode_id
        try:
            recording = self._reset(request, pipeline=pipeline, fence=fence)
        except DriverError:
            station.spool.drop_open()
            keeper.episode_id = None
            keeper.hold()
            raise
        self.recording = recording
        self.dropped.pop(request.episode_id, None)
        station.journal.append("episode_opened", episode_id=request.episode_id, task=request.task_id)
        log.info("episode opened episode=%s task=%s", request.episode_id, request.task_id)
        return recording

    def begin(self, recording: Recording) -> None:
        """The first step, or the start of a callback episode: time counts from here."""
        if recording.began_at is None:
            recording.began_at = recording.fed_at = self._station.clock()
            mode = recording.request.mode
            self._station.journal.append("episode_started", episode_id=recording.episode_id, mode=mode)

    def execute(
        self, recording: Recording, request: StepsRequest, *, allowed: Callable[[], None]
    ) -> StepsAnswer:
        """Take the next steps; `allowed` is asked before each and raises to stop.

        Raises:
            BadAction: one is not seven finite numbers; none was executed.
            UnknownOutcome: nobody knows what became of one; the episode is aborted.
            MotorFault, CameraStale: the episode is aborted.
        """
        actions = [checked_action(action) for action in request.actions]
        steps: list[StepAnswer] = []
        for action in actions:
            allowed()
            self._require_well(recording)
            self.begin(recording)
            steps.append(self._step(recording, action, infer_ms=request.infer_ms))
        answer = StepsAnswer(episode_id=recording.episode_id, next_step=recording.count, steps=steps)
        recording.remember(request, answer)
        return answer

    def hold(self, recording: Recording, why: str) -> None:
        """Let the arm hold until the next step; without a hold that works the episode ends."""
        if recording.held:
            return
        held_at = self._keeper.hold()
        if held_at is None:
            self.abort("aborted_hw")
            return
        recording.held, recording.target = True, held_at
        recording.pipeline.rest()
        recording.holds += 1
        self._station.journal.append(
            "hold", episode_id=recording.episode_id, next_step=recording.count, why=why
        )
        log.warning("arm held episode=%s step=%d why=%s", recording.episode_id, recording.count, why)

    def watch(self, recording: Recording) -> None:
        """Hold, or end, an episode that waits too long for its next step or runs too long."""
        if recording.began_at is None:
            return
        waited_s = self._station.clock() - recording.fed_at
        stepped = recording.request.mode == "stepped"
        verdict = (self._stepped if stepped else self._callback).verdict(waited_s)
        if self.is_overdue(recording):
            self.abort("timeout_client")
        elif verdict == "abort":
            self.abort("timeout_client" if stepped else "policy_error")
        elif verdict == "hold":
            self.hold(recording, f"no step for {waited_s:.2f} s")

    def is_overdue(self, recording: Recording) -> bool:
        """Whether the episode has run longer than any may."""
        began_at = recording.began_at
        return began_at is not None and self._station.clock() - began_at >= self._station.policy.max_episode_s

    def lose(self, recording: Recording) -> int:
        """End an episode of which nobody knows whether its step in flight moved; gives that step."""
        lost = recording.count if recording.in_flight is None else recording.in_flight
        recording.unknown_step, recording.in_flight = lost, None
        self.abort("aborted_hw")
        return lost

    def abort(self, outcome: Outcome) -> None:
        """Hold the arm, then end the episode."""
        self._keeper.hold()
        self.end(outcome)

    def end(self, outcome: Outcome) -> Manifest | None:
        """Judge the episode when it was completed, and put it into the spool; None: it had no step.

        Once decided, its end stays what it is: a second call only tries the disk again.

        Raises:
            SpoolDiskFull: it is still open; end it again when there is room.
        """
        recording = self.opened()
        if recording.ending is None:
            recording.ending = self._ending(outcome)
        ending = recording.ending
        manifest = None
        if recording.count > 0:
            manifest = self._spool(recording, ending)
        else:
            self._drop(recording, ending)
        self.recording, self._keeper.episode_id = None, None
        self._tell(recording, ending)
        return manifest

    def _spool(self, recording: Recording, ending: Ending) -> Manifest:
        episode = recording.episode(ending)
        try:
            self._station.spool.put(episode)
        except IdempotencyMismatch:  # it is in quarantine now
            self.recording = self._keeper.episode_id = None
            raise
        return episode.manifest

    def opened(self) -> Recording:
        """Raises:
        UnknownEpisode: none is open.
        """
        if self.recording is None:
            raise UnknownEpisode(episode_id="(none is open)")
        return self.recording

    def _reset(self, request: EpisodeRequest, *, pipeline: SafetyPipeline, fence: int) -> Recording:
        robot, station = self._keeper.description, self._station
        started_at = station.now()
        first = self._keeper.reset(request.task_id, seed=request.seed)
        pipeline.begin(first)
        task = robot.task(request.task_id)
        circumstances = Circumstances(
            station_id=station.station_id,
            instruction=task.instruction if request.instruction is None else request.instruction,
            transform_id=f"{robot.software_digest[:16]}/limits@{pipeline.limits.digest()[:16]}",
            control_hz=robot.control_hz,
            fence=fence,
            metadata={
                "robot_model": robot.robot_model,
                "renderer": robot.camera.renderer,
                "fence": str(fence),
                "driver": f"{robot.robot_model}@{robot.software_digest[:16]}",
                LIMITS_KEY: json.dumps(asdict(pipeline.limits), sort_keys=True),
            },
        )
        return Recording(
            request,
            circumstances=circumstances,
            pipeline=pipeline,
            first=first,
            target=self._keeper.target,
            started_at=started_at,
        )

    def _require_well(self, recording: Recording) -> None:
        self._keeper.poll()
        if self._keeper.fault is not None:
            self.abort("aborted_hw")
            raise self._keeper.fault

    def _step(self, recording: Recording, action: F32, *, infer_ms: float) -> StepAnswer:
        command = recording.pipeline.apply(recording.target, action, effort_mA=recording.newest.effort_mA)
        extra = HELD if recording.held else 0
        recording.in_flight = recording.count
        try:
            outcome = self._keeper.step(command.target, command.gripper)
            answer = recording.add(
                action, command=command, outcome=outcome, infer_ms=infer_ms, extra_flags=extra
            )
        except DriverDisconnected as cause:
            self._keeper.note(cause)
            lost = self.lose(recording)
            raise UnknownOutcome(episode_id=recording.episode_id, found=lost) from cause
        except DriverError as error:
            self._keeper.note(error)
            recording.in_flight = None
            self.abort("aborted_hw")
            raise
        recording.in_flight = None
        recording.fed_at = self._station.clock()
        if recording.held:
            recording.held = False
            self._station.journal.append("resumed", episode_id=recording.episode_id, step=answer.t)
        return answer

    def _ending(self, outcome: Outcome) -> Ending:
        now, success = self._station.now(), None
        if outcome == "completed":
            self.judging = True
            success = self._keeper.success()
            self.judging = False
        if success is None:
            return Ending(outcome=outcome, labels=(), at=now)
        judge = self._keeper.description.robot_model
        label = ManifestLabel(success=success, source="sim_predicate", judge=judge, at=now)
        return Ending(outcome=outcome, labels=(label,), at=now)

    def _drop(self, recording: Recording, ending: Ending) -> None:
        """There is nothing to keep of an episode without a step, but a step that nobody knows about."""
        episode_id, spool = recording.episode_id, self._station.spool
        if recording.unknown_step is not None:
            spool.bury_open()
        else:
            spool.drop_open()
        self.dropped[episode_id] = ending.outcome
        while len(self.dropped) > DROPPED_MAX:
            del self.dropped[next(iter(self.dropped))]

    def _tell(self, recording: Recording, ending: Ending) -> None:
        episode_id, journal = recording.episode_id, self._station.journal
        if recording.count:
            journal.append("clips", episode_id=episode_id, **recording.pipeline.counts)
        journal.append(
            "episode_finished", episode_id=episode_id, outcome=ending.outcome, steps=recording.count
        )
        if not recording.count:
            log.info("episode dropped episode=%s outcome=%s", episode_id, ending.outcome)
            return
        log.info(
            "episode spooled episode=%s task=%s outcome=%s steps=%d success=%s",
            *(episode_id, recording.request.task_id, ending.outcome, recording.count),
            ending.labels[0].success if ending.labels else None,
        )
