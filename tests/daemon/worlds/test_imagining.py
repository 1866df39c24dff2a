"""A what-if, imagined with tiny models: all that was asked for, judged at every frame, named by blobs."""

import io
import threading
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from daemon.heartbeat import WorkerStopped
from daemon.learning.policy.policy import new_policy
from daemon.learning.world_model.latents import world_actions
from daemon.learning.world_model.sampling import FrameSampler
from daemon.phases import collect
from daemon.phases.confining import confines_of, told_of
from daemon.settings import Settings
from daemon.statistics import wilson_interval
from daemon.worlds import imagining
from daemon.worlds.imagining import Beginning, beginning, imagine
from daemon.worlds.pictures import picture_of_pixels
from daemon.worlds.turn import WhatIfContext, WhatIfTurn
from storage import checkpoints, episodes, replay, trust_reports, what_ifs
from storage.errors import Retired
from storage.trust_reports import MEASURED, NewTrustReport
from tests.daemon.phases.conftest import Lab, keep_checkpoint, wall_clock
from tests.robot_bridge.toy_driver import TASKS

SENTENCES = tuple(TASKS.values())


def asked(lab: Lab, **changes: Any) -> WhatIfContext:
    pixels = np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    request = {
        "instruction": SENTENCES[0],
        "start": {"sha256": lab.blobs.put(picture_of_pixels(pixels).png)},
        "policy": None,
        "rollouts": 3,
        "steps": 12,
        "temperature": 1.0,
        "seed": 5,
    }
    return WhatIfContext(
        database=lab.database,
        blobs=lab.blobs,
        settings=Settings(data_dir=lab.folder),
        request=request | changes,
        report=lambda share, text: lab.told.append((share, text)),
        now=wall_clock,
    )


def test_every_rollout_is_imagined_judged_and_filmed(lab: Lab) -> None:
    result = imagine(asked(lab))
    assert len(result["rollouts"]) == 3
    assert result["steps"] == 10, "whole chunks of five only"
    assert result["trusted_steps"] is None
    assert {kind: read["number"] for kind, read in result["read"].items()} == {
        "policy": 1,
        "world_model": 1,
        "judge": 1,
    }
    for own in result["rollouts"]:
        assert len(own["along"]) == 11
        assert own["along"][-1] == pytest.approx(own["probability"], abs=2e-4)
        assert own["success"] in (None, own["probability"] > 0.5)
        with Image.open(io.BytesIO(lab.blobs.read(own["strip"]))) as strip:
            assert strip.size == (3 * 128, 128), "frames 0, 5 and 10 side by side"
        with av.open(io.BytesIO(lab.blobs.read(own["film"]))) as film:
            frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert (len(frames), frames[0].shape) == (11, (256, 256, 3))
    shares = [share for share, _ in lab.told]
    assert shares == sorted(shares)
    assert "imagining, chunk 2 of 2" in [text for _, text in lab.told]


def test_the_rate_counts_what_was_judged_and_nothing_else(lab: Lab) -> None:
    result = imagine(asked(lab, rollouts=16))
    verdicts = [own["success"] for own in result["rollouts"]]
    rate, judged = result["rate"], [verdict for verdict in verdicts if verdict is not None]
    assert (rate["successes"], rate["judged"]) == (sum(judged), len(judged))
    assert rate["declined"] == verdicts.count(None)
    interval = wilson_interval(rate["successes"], rate["judged"])
    assert (rate["wilson_low"], rate["wilson_high"]) == (interval.low, interval.high)


def test_the_same_question_has_the_same_answer_and_another_seed_another(lab: Lab) -> None:
    assert imagine(asked(lab)) == imagine(asked(lab))
    films = {own["film"] for seed in (5, 6) for own in imagine(asked(lab, seed=seed))["rollouts"]}
    assert len(films) == 6


def test_the_policy_that_was_asked_for_acts(lab: Lab, tmp_path) -> None:
    file = tmp_path / "other.safetensors"
    new_policy(SENTENCES, seed=9, width=16, layers=1, chunk=4).save(file, {})
    other = keep_checkpoint(lab.database, lab.blobs, "policy", file)
    champion, own = imagine(asked(lab)), imagine(asked(lab, policy=other.id))
    assert champion["read"]["policy"]["number"] == 1
    assert own["read"]["policy"] == {"id": other.id, "number": 2}
    assert (champion["steps"], own["steps"]) == (10, 12), "two chunks of five, three of four"


def test_a_policy_whose_file_was_let_go_is_told(lab: Lab) -> None:
    with lab.database.write() as session:
        policy = checkpoints.latest(session, "policy")
        assert policy is not None
        policy.retired_at = wall_clock()
    with pytest.raises(Retired):
        imagine(asked(lab, policy=policy.id))


def test_how_far_the_world_model_is_trusted_is_told(lab: Lab) -> None:
    with lab.database.write() as session:
        world_model = checkpoints.latest(session, "world_model")
        assert world_model is not None
        report = NewTrustReport(
            checkpoint_id=world_model.id,
            iteration_id=None,
            verdict=MEASURED,
            episodes=4,
            horizon=7,
            agreement=None,
            optimism=None,
            sensitivity=None,
            report={},
        )
        trust_reports.save(session, report, now=wall_clock())
    assert imagine(asked(lab))["trusted_steps"] == 7


def test_a_what_if_from_the_middle_of_an_episode_is_told_the_path_that_led_there(lab: Lab) -> None:
    lab.do("collect", collect.run)
    with lab.database.read() as session:
        row = replay.select(session, replay.EpisodeQuery(limit=1))[0]
        episode = episodes.load(session, lab.blobs, row.id)
    moves = world_actions(told_of(episode, confines_of(episode)))
    assert torch.allclose(beginning(asked(lab, episode=row.id, step=4)).path, moves[:4, :6].sum(0), atol=1e-5)
    assert beginning(asked(lab, episode=row.id, step=0)).path.tolist() == [0] * 6
    assert beginning(asked(lab, episode=None, step=None)).path.tolist() == [0] * 6, "a picture"


def test_the_path_reaches_the_world_model(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[torch.Tensor] = []
    start = FrameSampler.start

    def watched(self: FrameSampler, *args: Any, paths: torch.Tensor | None = None) -> None:
        assert paths is not None
        shown.append(paths)
        start(self, *args, paths=paths)

    monkeypatch.setattr(FrameSampler, "start", watched)
    begun = Beginning(path=torch.arange(6.0), confines=None)
    monkeypatch.setattr(imagining, "beginning", lambda _context: begun)
    imagine(asked(lab, rollouts=2))
    assert shown[0].tolist() == [[0, 1, 2, 3, 4, 5]] * 2


def test_it_can_be_stopped_after_any_chunk(lab: Lab) -> None:
    def report(share: float, text: str) -> None:
        if text.startswith("imagining, chunk 1"):
            raise WorkerStopped

    with pytest.raises(WorkerStopped):
        imagine(replace(asked(lab), report=report))


def test_a_workers_turn_keeps_what_was_imagined(lab: Lab) -> None:
    context = asked(lab, rollouts=2, steps=5)
    with lab.database.write() as session:
        row = what_ifs.ask(session, context.request, who="ann", now=wall_clock())
    turn = WhatIfTurn(
        settings=context.settings,
        name="w",
        stop=threading.Event(),
        database=lab.database,
        blobs=lab.blobs,
        imagine=imagine,
    )
    assert turn.once() is True
    with lab.database.read() as session:
        found = what_ifs.get(session, row.id)
    assert (found.state, found.error_code) == ("finished", None)
    assert found.result == imagine(context)
