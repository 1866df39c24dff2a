"""Phase 1: the current policy acts on every robot; each episode is stored before its robot forgets it.

The robots share one list of slots. Each has its own thread, its own lease and its own way of running an
episode, see `collectors`; what is common to them is in `sink` and `todo`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from contextvars import copy_context
from dataclasses import replace
from functools import partial

from daemon.phases.arms import Arms, load_arms
from daemon.phases.carrying import Document, conditions_of, undecided_before
from daemon.phases.collectors.autoeval import AutoEvalCollector
from daemon.phases.collectors.autoeval_link import autoeval_link
from daemon.phases.collectors.callback import CallbackDrive
from daemon.phases.collectors.collector import Collector
from daemon.phases.collectors.station import Drive, StationCollector
from daemon.phases.collectors.stepped import EarlyEnd, SteppedDrive
from daemon.phases.context import Outcome, PhaseContext
from daemon.phases.ending import ending, full_length
from daemon.phases.judging import load_judge
from daemon.phases.manifest import Inputs, write_manifest
from daemon.phases.referee import Referee, roll_back
from daemon.phases.sink import EpisodeSink
from daemon.phases.slots import CHAMPION, Slot, leg_seed, slots_of
from daemon.phases.todo import Todo
from daemon.policy_server.serve import running_policy_server
from daemon.policy_server.sessions import PolicySessions
from daemon.settings import Settings
from daemon.station_clients import station_client
from robot_bridge.errors import RobotBridgeError, StationUnreachable, UnknownTask
from storage import phase_runs, stations, tasks, trials

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0  # while another iteration has the robots


def run(context: PhaseContext) -> Outcome:
    """Fill every slot of the iteration with a valid episode, as far as the robots let us.

    Where there is a candidate, it acts beside the champion, and in the end it is decided which one goes on. A
    trial that was undecided in the lineage's iteration before is carried on first.

    Raises:
        SpecInvalid: it wants episodes to end early, and the settings collect in a way that cannot.
        UnknownTask: the spec names a task that no robot offers.
        RobotBridgeError: no robot that could go on is left; what was acknowledged is kept.
        StorageError: the store cannot take an episode; the robot keeps it.
        LeaseLost: another worker has this phase run by now.
    """
    begun = time.monotonic()
    context.spec.require_way(context.settings.collect_via)  # the daemon's own settings were asked before
    await_turn(context)
    with acting(context) as (arms, sink, collectors):
        inputs = worked_with(context, arms, collectors=collectors)
        write_manifest(context, inputs)
        planned = Counter(slot.task_id for slot in sink.slots if slot.arm == CHAMPION)
        referee = Referee(context, arms, conditions=present_conditions(sink, collectors), planned=planned)
        sink.beside = referee.said
        for collector in collectors:
            collector.take_home()
        todo = Todo(sink.wanted(), total=len(sink.slots), settled=referee.look)
        referee.look(todo)  # an attempt before may have seen enough
        collect_all(collectors, todo)
        unfilled = len(sink.wanted())
    trial = referee.conclude()
    if trial is None or trial["decision"] != trials.PROMOTED:
        back = roll_back(context, arms.champion.row)
        trial = trial if back is None else {**back, "tried": trial}
    return {
        "read": {kind: row.id for kind, row in inputs.checkpoints.items() if kind != "candidate"},
        "acted": {arm.name: arm.row.id for arm in arms.every},
        "trial": trial,
        "trial_not_carried": arms.not_carried,
        "full_length": inputs.more["collect"]["full_length"],
        "slots": len(sink.slots),
        "filled": len(sink.slots) - unfilled,
        "robots": [collector.name for collector in collectors],
        "seconds": time.monotonic() - begun,
    }


def await_turn(context: PhaseContext) -> None:
    """Wait for iterations of other lineages that collect already, where this machine has one door for robots.

    Stations that are worked step by step are told apart by their own leases, and are waited for there.

    Raises:
        LeaseLost: another worker has this phase run by now.
    """
    if not has_one_door(context.settings):
        return
    sink, pause = EpisodeSink(context), threading.Event()
    while ahead := sink.ahead():
        numbers = ", ".join(str(other.number) for other in ahead)
        context.report(0.0, f"waiting: the robots answer to iteration {numbers}")
        pause.wait(LOOK_EVERY_S)


def has_one_door(settings: Settings) -> bool:
    """Whether robots ask for actions at an address that one phase run alone can listen on."""
    via, port = settings.collect_via, settings.policy_bind.rpartition(":")[2]
    return via == "autoeval" or (via == "callback" and int(port) != 0)


def worked_with(context: PhaseContext, arms: Arms, *, collectors: Sequence[Collector]) -> Inputs:
    """Who acts and on which robots, each as it describes itself and its limits."""
    acting = {"policy": arms.champion.row}
    if arms.candidate is not None:
        acting["candidate"] = arms.candidate.row
    ends = ending(context)
    if ends is not None:
        acting["judge"] = ends.judge
    stations = {collector.name: dict(collector.facts) for collector in collectors}
    kept = {} if ends is None else dict(ends.full_length)
    collect: Document = {"via": context.settings.collect_via, "stations": stations, "full_length": kept}
    if arms.carried is not None:
        collect["trial_carried_from"] = [leg.number for leg in arms.carried.legs]
    return Inputs(checkpoints=acting, more={"collect": collect})


@contextmanager
def acting(context: PhaseContext) -> Iterator[tuple[Arms, EpisodeSink, list[Collector]]]:
    """Who acts, where their episodes go, and every robot.

    Whether the robots are those that an undecided trial was begun on is known once they are found.
    """
    carried, why = undecided_before(context)
    if carried is not None:
        arms = load_arms(context, carried=carried)
        with robots(context, arms) as (sink, found):
            in_the_way = carried.meets(present_conditions(sink, found))
            if in_the_way is None:
                yield arms, sink, found
                return
        why = carried.refused(in_the_way)
    if why is not None:
        log.info("trial not carried on iteration=%d reason=%s", context.iteration_number, why)
    arms = replace(load_arms(context), not_carried=why)
    with robots(context, arms) as (sink, found):
        yield arms, sink, found


def present_conditions(sink: EpisodeSink, collectors: Sequence[Collector]) -> Document:
    """Under which conditions this iteration's episodes are counted."""
    context, tasks = sink.context, {slot.task_id for slot in sink.slots}
    early = tasks - full_length(context).keys() if context.spec.stop_on_success else set()
    stations = {collector.name: collector.facts for collector in collectors}
    return conditions_of(context, tasks=tasks, may_end_early=early, stations=stations)


@contextmanager
def robots(context: PhaseContext, arms: Arms) -> Iterator[tuple[EpisodeSink, list[Collector]]]:
    """Every robot of the settings, ready to collect with these policies, and where their episodes go."""
    sink = EpisodeSink(context)
    with ExitStack() as stack:
        if context.settings.collect_via == "autoeval":
            found = list(at_autoeval(stack, sink, arms=arms))
        else:
            drive = stack.enter_context(driven(context, arms))
            found = list(reachable(stack, sink, drive=drive, arms=arms))
        sink.slots = plan(context, found, arms=arms)
        yield sink, found


def at_autoeval(stack: ExitStack, sink: EpisodeSink, *, arms: Arms) -> Iterator[Collector]:
    """AutoEval's robots, all answered by one gateway.

    Raises:
        NoRobot, SchedulerError: AutoEval has no robot that we know, or cannot be asked.
        GatewayBusy: another worker answers.
    """
    temperature = sink.context.spec.collect.temperature
    policies = {
        arm.row.id: PolicySessions(arm.policy, arm.ref, temperature=temperature) for arm in arms.every
    }
    link = stack.enter_context(autoeval_link(sink.context.settings, policies))
    for robot in link.robots().values():
        yield AutoEvalCollector(robot, link, sink, arms=arms)


@contextmanager
def driven(context: PhaseContext, arms: Arms) -> Iterator[Drive]:
    """How episodes are run on stations: by us, or by them against a server of our policies."""
    settings, temperature = context.settings, context.spec.collect.temperature
    if settings.collect_via == "stepped":
        yield SteppedDrive(arms, temperature=temperature, early_end=early_end(context))
        return
    sessions = PolicySessions(arms.champion.policy, arms.champion.ref, temperature=temperature)
    host, _, port = settings.policy_bind.rpartition(":")
    with running_policy_server(
        sessions, host=host, port=int(port), trust_network=settings.trust_network
    ) as url:
        yield CallbackDrive(settings.policy_public_url or url, sessions, arms)


def early_end(context: PhaseContext) -> EarlyEnd | None:
    """The judge that may end episodes early, loaded; None where all are to have their full length."""
    ends = ending(context)
    if ends is None:
        return None
    judge, without = load_judge(context, ends.judge), frozenset(ends.full_length)
    return EarlyEnd(judge=judge, checkpoint_id=ends.judge.id, without=without)


def reachable(stack: ExitStack, sink: EpisodeSink, *, drive: Drive, arms: Arms) -> Iterator[Collector]:
    """The stations that answer.

    Raises:
        StationUnreachable: none does.
    """
    settings, silent, found = sink.context.settings, None, 0
    for url in settings.stations:
        client = stack.enter_context(closing(station_client(settings, url)))
        try:
            yield StationCollector(client, sink, drive=drive, arms=arms)
            found += 1
        except StationUnreachable as gone:
            log.warning("station left out url=%s reason=%s", url, gone)
            silent = gone
    if silent is not None and not found:
        raise silent


def plan(context: PhaseContext, collectors: Sequence[Collector], *, arms: Arms) -> list[Slot]:
    """The slots of this iteration; robots and tasks get their rows here.

    Raises:
        UnknownTask: the spec names a task that no robot offers.
    """
    offered = {task: text for collector in collectors for task, text in collector.offers.items()}
    wanted: tuple[str, ...] = context.spec.tasks or tuple(offered)
    for task_id in wanted:
        if task_id not in offered:
            raise UnknownTask(task_id=task_id, known=", ".join(offered))
    with context.database.write() as session:
        phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
        for collector in collectors:
            stations.ensure(session, collector.name, description=collector.facts, now=context.now())
        for task_id in wanted:
            tasks.ensure(session, task_id, instruction=offered[task_id], now=context.now())
    return slots_of(
        context.iteration_id,
        wanted,
        episodes_per_task=context.spec.collect.episodes_per_task,
        held_out_every=context.spec.collect.held_out_every,
        seed=leg_seed(context.spec.seed, len(arms.carried.legs) if arms.carried else 0),
        arms=[arm.name for arm in arms.every],
    )


def collect_all(collectors: Sequence[Collector], todo: Todo) -> None:
    """Let every robot work in a thread of its own until nothing is left to do.

    A robot that fails puts its slot back for the others; its error is raised when work is left that nobody
    could do. Any other end of a thread, a lost phase run above all, stops the others at once.
    """
    stop = threading.Event()
    failed: list[Exception] = []
    with ThreadPoolExecutor(max_workers=max(1, len(collectors)), thread_name_prefix="collect") as pool:
        running = {
            pool.submit(copy_context().run, partial(collector.collect, todo, stop=stop)): collector
            for collector in collectors  # in a copy of this thread's context each: calls belong to its trace
        }
        try:
            while running:
                failed += finished(running)
        except BaseException:
            stop.set()
            raise
    if failed and todo.left:
        raise failed[0]


def finished(running: dict[Future[None], Collector]) -> list[Exception]:
    """Wait for the next robots to end and take them out; the errors of those that failed.

    Raises:
        LeaseLost, StorageError: of a robot's thread; it concerns all of them.
    """
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    failed: list[Exception] = []
    for future in done:
        collector = running.pop(future)
        try:
            future.result()
        except RobotBridgeError as error:
            log.error("robot gave up station=%s code=%s reason=%s", collector.name, error.code, error)
            failed.append(error)
    return failed
