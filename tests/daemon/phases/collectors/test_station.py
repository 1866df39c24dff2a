"""A station as a collector, over real HTTP: what it does when the robot is taken, tired, broken or gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.errors import ContractMismatch
from daemon.lab import free_port
from daemon.learning.policy.contract import ActionContract
from daemon.phases.arms import load_arms
from daemon.phases.collectors import station as station_module
from daemon.phases.collectors.station import StationCollector
from daemon.phases.sink import EpisodeSink
from daemon.phases.slots import Slot, slots_of
from daemon.phases.todo import Todo
from daemon.scheduling.errors import HumanAwaited
from robot_bridge.client import StationClient
from robot_bridge.drivers.fault_plan import FaultKind
from robot_bridge.drivers.faults import FaultPlan, FaultyDriver
from robot_bridge.errors import (
    DriverError,
    EpisodeState,
    EStopped,
    LeaseConflict,
    RobotBridgeError,
    StationUnreachable,
)
from robot_bridge.protocol import EpisodeMode, EpisodeRequest
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.human import HumanCall
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.serve import Binding, running_station
from storage import events, replay
from storage.tables import EpisodeRow
from tests.daemon.phases.conftest import SMALL, Lab
from tests.robot_bridge.builders import forward
from tests.robot_bridge.toy_driver import ToyDriver

QUICK = StationPolicy(hold_after_ms=200, abort_after_ms=600)


class Scripted:
    """A drive that walks forward; `between` is called before every step."""

    mode: EpisodeMode = "stepped"
    endpoint = None

    def __init__(self) -> None:
        self.between: Callable[[int], None] = lambda t: None
        self.episodes: list[str] = []

    def ended_by(self, task_id: str) -> None:
        """Nobody ends an episode of it early."""

    def run(self, client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        client.create_episode(request)
        self.episodes.append(request.episode_id)
        for t in range(request.max_steps):
            self.between(t)
            client.step(request.episode_id, t, forward(1))
        client.finish(request.episode_id)


class Cell:
    """One station over a robot that can fail, one collector for it, and two slots to fill."""

    def __init__(self, lab: Lab, spool: Path, stack: ExitStack) -> None:
        self.lab, self.spool = lab, spool
        self.driver = FaultyDriver(ToyDriver(), plan=FaultPlan(reset_reboots=True))
        self.drive = Scripted()
        self.binding = Binding(port=free_port())
        context = lab.context("collect")
        self.sink = EpisodeSink(context)
        self.sink.slots = slots_of(
            lab.iteration_id, ("open_drawer",), episodes_per_task=2, held_out_every=2, seed=3
        )
        self._stack = stack
        self.start()
        self.client = StationClient(self.url)
        stack.callback(self.client.close)
        self.collector = StationCollector(self.client, self.sink, drive=self.drive, arms=load_arms(context))

    def start(self) -> None:
        self.running = ExitStack()
        self._stack.callback(self.running.close)
        self.url = self.running.enter_context(
            running_station(
                self.driver, spool=self.spool, station_id="cell", policy=QUICK, binding=self.binding
            )
        )

    def collect(self, *, stop: threading.Event | None = None) -> Todo:
        todo = Todo(self.sink.wanted(), total=2)
        self.collector.collect(todo, stop=stop or threading.Event())
        return todo

    def rows(self) -> list[EpisodeRow]:
        with self.lab.database.read() as session:
            query = replay.EpisodeQuery(origin="collect", valid_for_world_model=None, newest_first=False)
            return replay.select(session, query)

    def outcomes(self) -> list[str]:
        return [row.outcome for row in self.rows()]

    def stranger(self) -> StationClient:
        client = StationClient(self.url)
        self._stack.callback(client.close)
        return client


@pytest.fixture
def cell(lab: Lab, tmp_path: Path) -> Iterator[Cell]:
    with ExitStack() as stack:
        yield Cell(lab, tmp_path / "cell", stack)


@pytest.mark.parametrize(
    ("contract", "differs"),
    [
        (ActionContract(control_hz=10.0), "control_hz 10 against 5"),
        (ActionContract(action="joints"), "action joints against bridge_v2"),
        (ActionContract(gripper="norm10"), "gripper norm10 against norm01"),
    ],
)
def test_a_policy_that_means_something_else_by_an_action_never_acts(
    cell: Cell, contract: ActionContract, differs: str
) -> None:
    arms = load_arms(cell.sink.context)
    arms.champion.policy.contract = contract
    with pytest.raises(ContractMismatch, match=f"cannot act at cell: {differs} there") as refused:
        StationCollector(cell.client, cell.sink, drive=cell.drive, arms=arms)
    assert refused.value.code == "policy_contract_mismatch"
    assert cell.rows() == []


def once(at: int, action: Callable[[], object]) -> Callable[[int], None]:
    """Do something before step `at` of the first episode, and never again."""
    left = [action]

    def between(t: int) -> None:
        if t == at and left:
            left.pop()()

    return between


@contextmanager
def helper(action: Callable[[], object]) -> Iterator[None]:
    """Somebody who does something meanwhile."""
    thread = threading.Thread(target=action)
    thread.start()
    yield
    thread.join()


def told(cell: Cell, phrase: str) -> threading.Event:
    """Set as soon as the phase says the phrase."""
    said = threading.Event()

    def report(share: float, text: str) -> None:
        if phrase in text:
            said.set()

    cell.sink.context = replace(cell.sink.context, report=report)
    return said


def test_every_slot_is_filled_and_the_robot_is_given_back(cell: Cell) -> None:
    todo = cell.collect()
    assert cell.outcomes() == ["completed", "completed"]
    assert (todo.share, todo.left) == (1.0, ())
    assert cell.stranger().status().lease is None
    assert cell.stranger().waiting_episodes() == ()


def test_a_robot_that_somebody_else_has_is_waited_for(cell: Cell) -> None:
    other = cell.stranger()
    other.acquire_lease("somebody else", 30.0)
    waiting = told(cell, "another holder")

    def leave() -> None:
        assert waiting.wait(30)
        other.release()

    with helper(leave):
        cell.collect()
    assert cell.outcomes() == ["completed", "completed"]


def test_a_robot_that_is_never_given_back_is_given_up(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station_module, "LEASE_WAIT_S", 0.0)
    cell.stranger().acquire_lease("somebody else", 30.0)
    with pytest.raises(LeaseConflict):
        cell.collect()
    assert cell.rows() == []


def test_an_iteration_of_another_lineage_is_waited_for_until_it_is_done_with_the_robot(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station_module, "LEASE_WAIT_S", 0.0)
    cell.lab.request({**SMALL, "lineage": "b"})
    number = cell.lab.context("collect").iteration_number
    other = cell.stranger()
    other.acquire_lease(f"iteration-{number}", 30.0)
    waiting = told(cell, f"another holder, iteration-{number},")

    def leave() -> None:
        assert waiting.wait(30)
        other.release()

    with helper(leave):
        cell.collect()
    assert cell.outcomes() == ["completed", "completed"]


def test_a_robot_that_another_lineage_has_is_not_waited_for_once_nothing_is_left_to_do(cell: Cell) -> None:
    cell.lab.request({**SMALL, "lineage": "b"})
    number = cell.lab.context("collect").iteration_number
    cell.stranger().acquire_lease(f"iteration-{number}", 30.0)
    waiting = told(cell, f"iteration-{number}")
    todo = Todo(cell.sink.wanted(), total=2)

    def others_do_it() -> None:
        assert waiting.wait(30)
        todo.give_up(lambda slot: True)

    with helper(others_do_it):
        cell.collector.collect(todo, stop=threading.Event())
    assert cell.drive.episodes == []
    assert cell.stranger().status().lease is not None, "it was left to the other"


def test_an_iteration_that_collects_no_more_is_waited_for_no_longer_than_anybody(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station_module, "LEASE_WAIT_S", 0.0)
    cell.lab.request({**SMALL, "lineage": "b"})
    context = cell.lab.context("collect")
    cell.stranger().acquire_lease(f"iteration-{context.iteration_number}", 30.0)
    cell.lab.end(context, {})
    with pytest.raises(LeaseConflict):
        cell.collect()


@pytest.mark.parametrize("kind", ["motor_overload", "disconnect", "dead_camera"])
def test_a_fault_in_an_episode_costs_that_try_and_the_slot_is_filled_after_service(
    cell: Cell, kind: FaultKind
) -> None:
    cell.drive.between = once(4, lambda: cell.driver.inject(kind))
    with suppress(DriverError, RobotBridgeError):
        cell.collect()
    aborted = [row for row in cell.rows() if row.outcome == "aborted_hw"]
    assert len(aborted) == 1
    assert not aborted[0].valid_for_policy_eval
    assert aborted[0].valid_for_world_model
    cell.running.close()  # somebody serves the robot and starts its station again
    cell.start()
    cell.driver.reboot_motors()
    cell.collect()
    assert sum(row.valid_for_policy_eval for row in cell.rows()) == 2
    assert len(set(cell.drive.episodes)) == len(cell.drive.episodes)  # no try is made twice


def test_a_station_that_comes_back_is_gone_on_with(cell: Cell) -> None:
    cell.drive.between = once(3, lambda: (cell.running.close(), cell.start()))
    cell.collect()
    outcomes = cell.outcomes()
    assert outcomes.count("completed") == 2
    assert outcomes.count("aborted_lease") == len(outcomes) - 2 == 1


def test_a_station_that_stays_away_is_given_up_and_its_slot_put_back(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station_module, "PATIENCE_S", 0.5)
    cell.drive.between = once(3, cell.running.close)
    todo = Todo(cell.sink.wanted(), total=2)
    with pytest.raises(StationUnreachable):
        cell.collector.collect(todo, stop=threading.Event())
    assert [slot.index for slot in todo.left] == [0, 1]
    assert cell.rows() == []


def test_an_emergency_stop_ends_the_phase_and_nothing_moves_until_it_is_cleared(cell: Cell) -> None:
    cell.drive.between = once(3, lambda: cell.stranger().estop("hand in the cell"))
    with pytest.raises(EStopped, match="hand in the cell"):
        cell.collect()
    moved = cell.driver.motions
    with pytest.raises(EStopped):
        cell.collect()
    assert cell.driver.motions == moved
    EStopLatch(cell.spool).clear()
    cell.collect()
    assert sorted(cell.outcomes()) == ["aborted_estop", "completed", "completed"]


def test_somebody_who_is_needed_at_the_robot_is_waited_for(cell: Cell) -> None:
    HumanCall(cell.spool).ask("the eggplant fell off the table", cell.sink.context.now())
    waiting = told(cell, "the eggplant fell off the table")

    def help_out() -> None:
        assert waiting.wait(30)
        HumanCall(cell.spool).done()

    with helper(help_out):
        cell.collect()
    assert cell.outcomes() == ["completed", "completed"]
    with cell.sink.context.database.read() as session:
        needed, over = events.after(session, 0, kinds=["station_needs_human", "station_goes_on"])
    assert needed.facts["reason"] == "the eggplant fell off the table"
    assert (needed.facts["station"], needed.facts["address"]) == ("cell", cell.url)
    assert over.kind == "station_goes_on"


def test_a_robot_that_nobody_comes_to_ends_the_phase_with_its_code(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYMNASTD_HUMAN_WAIT_S", "1.0")
    with ExitStack() as stack:
        cell = Cell(lab, tmp_path / "cell", stack)
        HumanCall(cell.spool).ask("the eggplant fell off the table", cell.sink.context.now())
        with pytest.raises(HumanAwaited, match=r"cell has waited 1 s .* the eggplant fell off the table"):
            cell.collect()
        assert cell.stranger().status().lease is None, "people have the robot"
        assert [kind for kind, _, _ in told_of(cell)] == ["station_needs_human"]
        HumanCall(cell.spool).done()
        cell.collect()
        assert cell.outcomes() == ["completed", "completed"]


def told_of(cell: Cell) -> list[tuple[str, int | None, str]]:
    with cell.sink.context.database.read() as session:
        rows = events.after(session, 0, kinds=["station_needs_human", "station_goes_on"])
    return [(row.kind, row.iteration, row.facts.get("reason", "")) for row in rows]


def test_an_emergency_stop_is_told_once_though_every_attempt_finds_it(cell: Cell) -> None:
    cell.drive.between = once(3, lambda: cell.stranger().estop("hand in the cell"))
    for _ in range(2):
        with pytest.raises(EStopped):
            cell.collect()
    assert told_of(cell) == [("station_needs_human", 1, "its emergency stop is pressed (hand in the cell)")]
    EStopLatch(cell.spool).clear()
    cell.collect()
    assert [kind for kind, _, _ in told_of(cell)] == ["station_needs_human", "station_goes_on"]


def test_a_fault_of_the_arm_is_told(cell: Cell) -> None:
    cell.drive.between = once(4, lambda: cell.driver.inject("motor_overload"))
    with suppress(DriverError, RobotBridgeError):
        cell.collect()
    ((kind, iteration, reason),) = told_of(cell)
    assert (kind, iteration) == ("station_needs_human", 1)
    assert "motor" in reason or "fault" in reason


def test_being_asked_to_stop_puts_the_untouched_slot_back(cell: Cell) -> None:
    stop = threading.Event()
    cell.drive.between = once(2, stop.set)
    todo = cell.collect(stop=stop)
    assert [slot.index for slot in todo.left] == [0, 1]
    assert cell.stranger().status().lease is None
    cell.collect()  # the episode that ended after all is found at the station
    assert cell.outcomes() == ["completed", "completed"]
    assert len(cell.drive.episodes) == 2


def test_a_slot_that_was_filled_while_the_station_was_away_is_not_filled_again(cell: Cell) -> None:
    """The answer to the last call was lost: the episode is whole at the station, and is found there."""

    def lose_the_answer(client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        Scripted().run(client, request, stop=stop)
        if not cell.rows():
            cell.drive.run = Scripted().run  # type: ignore[method-assign]
            raise StationUnreachable(url=cell.url, call="POST finish", tries=1, reason="cut")

    cell.drive.run = lose_the_answer  # type: ignore[method-assign]
    cell.collect()
    assert cell.outcomes() == ["completed", "completed"]


def test_an_error_while_the_episode_goes_on_is_not_taken_for_its_end(cell: Cell) -> None:
    def refuse(t: int) -> None:
        if t == 2:
            raise EpisodeState(episode_id="e", found="odd", expected="even")

    cell.drive.between = refuse
    with pytest.raises(EpisodeState):
        cell.collect()


def a_slot(lab: Lab) -> Slot:
    return slots_of(lab.iteration_id, ("open_drawer",), episodes_per_task=2, held_out_every=2, seed=3)[0]


def test_what_a_station_offers_and_is_comes_from_itself(cell: Cell) -> None:
    assert cell.collector.name == "cell"
    assert dict(cell.collector.offers) == {
        "open_drawer": "open the drawer",
        "close_drawer": "close the drawer",
    }
    assert cell.collector.facts["robot_model"] == "toy"
    assert a_slot(cell.lab).task_id in cell.collector.offers
