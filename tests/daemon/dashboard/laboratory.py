"""Two iterations of a lab with hostile names, and something for every page to show."""

import json
from datetime import UTC, datetime

from daemon.curves import append_moment, curves_path
from storage import checkpoints, episodes, iterations, labels, notes, trials, trust_reports
from storage.labels import Verdict
from tests.daemon.conftest import build_episode

HOSTILE = '<script>alert("1")</script>'
TASK = "open_drawer"
SPEC = {"seed": 1, "tasks": [TASK]}
OUTCOMES = {"hits": 6, "false_hopes": 2, "missed": 1, "rightly_failed": 2, "declined": 3, "agreement": 8 / 11}
JPEG = b"\xff\xd8\xff\xe0 a strip \xff\xd9"


def trust_document():
    curve = {"1": 0.1, "2": 0.2, "10": None}
    own = {**OUTCOMES, "optimism": 1 / 11}
    return {
        "horizon": 33, "max_latent_error": 0.5, "action_sensitivity": 1.4,
        "outcomes": {HOSTILE: own}, "overall": own, "closed_loop": {"tasks": {HOSTILE: own}, "overall": own},
        "drift": {"psnr": curve, "ssim": curve, "latents": curve, "pixels": curve, "still": curve},
        "shuffled_latents": curve,
    }  # fmt: skip


def fill(client, finish_phase, database, blobs, folder):
    """Two finished iterations: collect with a trial, a gate that accepted, an update."""
    made = []
    for number in (1, 2):
        assert client.post("/v1/iterations", json={**SPEC, "seed": number}).status_code == 201
        made.append(
            one(finish_phase, database, blobs, folder, number=number, parent=made[-1] if made else None)
        )
    return made


def one(finish_phase, database, blobs, folder, *, number, parent):
    now = datetime.now(UTC)
    policy = saved(database, blobs, folder, kind="policy", number=number, parent=parent and parent["policy"])
    old = parent["policy"] if parent else policy
    with database.write() as session:
        row = next(r for r in iterations.list_iterations(session)[0] if r.number == number)
        for place, success in enumerate((True, False, None)):
            task = HOSTILE if place == 1 else TASK
            built = build_episode(10 * number + place, success=success, task_id=task, steps=6)
            origin = episodes.Provenance(
                origin="collect", iteration_id=row.id, checkpoint_id=old if place else policy
            )
            episodes.commit(session, blobs, built, provenance=origin, now=now)
            labels.append(
                session,
                built.manifest.episode_id,
                Verdict(success=None, source="human", at=now, judge=HOSTILE, answer=HOSTILE),
                now=now,
            )
            notes.append(session, built.manifest.episode_id, HOSTILE, author=HOSTILE, now=now)
    collected = finish_phase(**collect_outcome(database, row.id, old, policy, now=now))
    moment = {"update": 1.0, f"loss/{HOSTILE}": 0.5}
    path = curves_path(folder, collected.phase_run_id)
    for update in (1.0, 2.0, 3.0):
        append_moment(path, {**moment, "update": update, "reward": update / 3}, now=now)
    model = saved(
        database, blobs, folder, kind="world_model", number=number, parent=parent and parent["world_model"]
    )
    finish_phase(**finetune_outcome(database, blobs, row.id, model, now=now))
    finish_phase(
        imagined_success={TASK: {"first": 0.25, "last": 0.5}, HOSTILE: {"first": 0.1, "last": 0.2}},
        tasks_left_out={HOSTILE: HOSTILE},
        judge_audit={HOSTILE: OUTCOMES},
        made={"policy": policy},
        read={"world_model": model},
        updates=3,
    )
    return {"policy": policy, "world_model": model}


def collect_outcome(database, iteration_id, old, new, *, now):
    count = {"champion": {"successes": 1, "episodes": 2}, "candidate": {"successes": 2, "episodes": 2}}
    evidence = {"probability_better": 0.9, "by_task": {HOSTILE: {**count, "probability_better": 0.8}}}
    if old != new:
        trial = trials.NewTrial(
            iteration_id=iteration_id,
            champion_id=old,
            candidate_id=new,
            decision="promoted",
            evidence=evidence,
        )
        with database.write() as session:
            trials.save(session, trial, now=now)
    return {"trial": {"decision": "promoted", **evidence}, "read": {"policy": old}}


def finetune_outcome(database, blobs, iteration_id, model, *, now):
    report = trust_document()
    with database.write() as session:
        trust_reports.save(
            session,
            trust_reports.NewTrustReport(
                checkpoint_id=model,
                iteration_id=iteration_id,
                verdict="accepted",
                episodes=4,
                horizon=33,
                agreement=0.7,
                optimism=0.1,
                sensitivity=1.4,
                report=report,
            ),
            now=now,
        )
    return {
        "held_out_error": {"before": 0.02, "after": 0.01, "by_horizon": {}, "unit": "u"},
        "gate": {"accepted": True, "reasons": [HOSTILE, "better"], "fresh": None, "older": None},
        "trust": report,
        "judge_along": {TASK: {"real": [0.1, None, 0.9], "imagined": [0.1, 0.2, 0.4]}},
        "film_strips": {
            TASK: {"episode_id": "e", "real": blobs.put(JPEG), "imagined": blobs.put(JPEG[::-1])}
        },
        "made": {"world_model": model},
    }


def saved(database, blobs, folder, *, kind, number, parent):
    file = folder / f"{kind}-{number}"
    file.write_text(json.dumps([kind, number]))
    new = checkpoints.NewCheckpoint(kind=kind, spec_digest="5" * 64, card={"note": HOSTILE}, parent_id=parent)
    with database.write() as session:
        return checkpoints.save(session, blobs, new, file=file, now=datetime.now(UTC)).id
