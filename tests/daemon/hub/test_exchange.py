"""Checkpoints as folders: read by the libraries that they are for, and back to the very same bytes."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import dynamic_modules_utils
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from daemon.cli import app
from daemon.errors import PageNotFound, SpecInvalid
from daemon.hub.errors import CheckpointFolderInvalid
from daemon.hub.exchange import _new, export_checkpoint, import_checkpoint
from daemon.hub.pipeline import WorldModelPipeline
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.nano_vla import NanoVLA
from daemon.learning.policy.policy import Policy
from daemon.learning.policy.tokens import nano_binning
from daemon.learning.policy.vlm_action import VlmActionModel
from daemon.learning.policy.vlm_policy import VlmPolicy
from daemon.learning.state import CheckpointUnreadable, load_state, save_state
from daemon.learning.world_model.autoencoder import NanoAutoencoder
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.transformer import WorldModelTransformer
from daemon.phases.arms import champion_of
from daemon.phases.checkpoints import current
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database, utc_now
from storage import checkpoints
from storage.adoption import CANDIDATE, adoptable
from storage.errors import RowMissing
from storage.interchange.errors import TargetNotEmpty
from storage.tables import CheckpointRow
from tests.daemon.learning.policy.tiny_vlms import llava
from tests.daemon.phases.conftest import tiny_installation

KINDS = ("world_model", "policy", "judge")


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """A store with tiny models of every kind."""
    made = tiny_installation(tmp_path, monkeypatch)
    made.data_dir.mkdir()
    database, blobs = open_database(made), open_blobs(made)
    database.upgrade()
    for kind in KINDS:
        current(database, blobs, kind, lineage="main", preset="nano", now=utc_now())
    database.dispose()
    return made


@pytest.fixture
def elsewhere(tmp_path) -> Settings:
    return Settings(data_dir=tmp_path / "elsewhere")


def row_of(settings: Settings, kind: str) -> CheckpointRow:
    database = open_database(settings)
    with database.read() as session:
        row = checkpoints.latest(session, kind)
    database.dispose()
    assert row is not None
    return row


def exported(settings: Settings, kind: str, folder: Path) -> Path:
    export_checkpoint(settings, row_of(settings, kind).id, folder, licence="apache-2.0")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_comes_back_bit_for_bit(settings, elsewhere, tmp_path, kind):
    folder = exported(settings, kind, tmp_path / "out")
    row, new = import_checkpoint(elsewhere, folder, adopt=False)
    before = row_of(settings, kind)
    assert (new, row.kind, row.sha256, row.parent_id) == (True, kind, before.sha256, None)
    assert open_blobs(elsewhere).read(row.sha256) == open_blobs(settings).read(before.sha256)
    again, new = import_checkpoint(elsewhere, folder, adopt=False)
    assert (again.id, new) == (row.id, False)
    assert import_checkpoint(settings, folder, adopt=False)[1] is False


def test_diffusers_reads_the_world_model(settings, tmp_path):
    folder = exported(settings, "world_model", tmp_path / "out")
    read = WorldModelTransformer.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
    row = row_of(settings, "world_model")
    own = WorldModel.load(open_blobs(settings).path(row.sha256)).transformer
    for (name, tensor), found in zip(own.state_dict().items(), read.state_dict().values(), strict=True):
        assert torch.equal(tensor, found.float()), name
    pipeline = json.loads((folder / "model_index.json").read_text())
    assert pipeline["transformer"][1] == "WorldModelTransformer"
    assert pipeline["sampling"]["denoise_steps"] == 2


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Nothing is fetched, and code that diffusers copies stays in the test's folder."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    yield
    for name in [name for name in sys.modules if name.startswith("diffusers_modules")]:
        del sys.modules[name]


def test_diffusers_reads_the_whole_pipeline_and_it_imagines_what_the_world_model_does(
    settings, tmp_path, offline
):
    folder = exported(settings, "world_model", tmp_path / "out")
    own = WorldModel.load(open_blobs(settings).path(row_of(settings, "world_model").sha256))
    images = torch.randint(0, 256, (2, 3, own.image_size, own.image_size), dtype=torch.uint8)
    actions = 0.01 * torch.randn(2, 3, 7)
    env = ImaginedEnv(own, seed=5)
    env.reset(images, seeds=[5, 6])
    env.imagine(actions)
    for read in (
        DiffusionPipeline.from_pretrained(folder, trust_remote_code=True),
        WorldModelPipeline.from_pretrained(folder),
    ):
        assert type(read) is WorldModelPipeline
        assert read.world_model().sampling == own.sampling
        assert torch.equal(read(images, actions, seed=5), env.film())


def test_a_folder_runs_nothing_that_nobody_trusts(settings, tmp_path, offline):
    folder = exported(settings, "world_model", tmp_path / "out")
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(folder)


def test_a_vision_language_policy_comes_back_bit_for_bit_and_decides_the_same(settings, elsewhere, tmp_path):
    llava(tmp_path / "backbone")
    policy = VlmPolicy.of_folder(tmp_path / "backbone", binning=nano_binning(), image_size=64, chunk=2)
    policy.save(tmp_path / "policy.safetensors", {})
    database, blobs = open_database(settings), open_blobs(settings)
    with database.write() as session:
        new = checkpoints.NewCheckpoint(kind="policy", spec_digest="0" * 64)
        made = checkpoints.save(session, blobs, new, file=tmp_path / "policy.safetensors", now=utc_now())
    database.dispose()
    folder = tmp_path / "out"
    export_checkpoint(settings, made.id, folder, licence="apache-2.0")
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["model_type"]) == (["VlmActionModel"], "vlm_action")
    row, new = import_checkpoint(elsewhere, folder, adopt=False)
    assert (new, row.sha256) == (True, made.sha256)
    images, asked = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8), ["the drawer gapes"]
    before, after = (load_policy(open_blobs(s).path(made.sha256)) for s in (settings, elsewhere))
    assert torch.equal(before.logits(images, asked), after.logits(images, asked))
    read = VlmActionModel.from_pretrained(folder, dtype=torch.float32)
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(tensor, read.state_dict()[name]), name


def test_transformers_reads_the_policy_and_its_tokenizer(settings, tmp_path):
    folder = exported(settings, "policy", tmp_path / "out")
    read = NanoVLA.from_pretrained(folder)
    own = Policy.load(open_blobs(settings).path(row_of(settings, "policy").sha256))
    for name, tensor in own.model.state_dict().items():
        assert torch.equal(tensor, read.state_dict()[name].float()), name
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    assert tokenizer("open the drawer")["input_ids"] == own.tokenizer("open the drawer")["input_ids"]
    assert json.loads((folder / "action_config.json").read_text())["binning"]["bins"] == own.binning.bins


def test_the_card_says_what_is_known(settings, tmp_path):
    folder = tmp_path / "out"
    export_checkpoint(settings, "champion", folder, licence="cc-by-4.0")
    card = (folder / "README.md").read_text()
    row = row_of(settings, "policy")
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    for said in (row.id, row.sha256, "# Policy 1", "Nothing was measured on a robot.", "## Lineage"):
        assert said in card


def test_a_policy_is_tried_next_and_a_world_model_waits_to_be_adopted(settings, elsewhere, tmp_path):
    folders = {kind: exported(settings, kind, tmp_path / kind) for kind in KINDS}
    for kind in ("policy", "world_model"):
        import_checkpoint(elsewhere, folders[kind], adopt=False)
    row, _ = import_checkpoint(elsewhere, folders["judge"], adopt=True)
    database = open_database(elsewhere)
    with database.read() as session:
        found = {kind: [each.number for each in adoptable(session, kind, lineage="main")] for kind in KINDS}
    assert (
        champion_of(database, open_blobs(elsewhere), lineage="main", preset="nano", now=utc_now()).kind
        == "policy"
    )
    database.dispose()
    assert found == {"policy": [1], "world_model": [], "judge": [row.number]}


def test_a_checkpoint_is_brought_in_for_one_lineage_and_into_another_again(settings, elsewhere, tmp_path):
    folder = exported(settings, "policy", tmp_path / "out")
    rows = [import_checkpoint(elsewhere, folder, adopt=False, lineage=name) for name in ("b", "c", "b")]
    assert [new for _, new in rows] == [True, True, False]
    assert [row.lineage for row, _ in rows] == ["b", "c", "b"]
    database = open_database(elsewhere)
    with database.read() as session:
        found = {name: adoptable(session, "policy", lineage=name) for name in ("main", "b", "c")}
    database.dispose()
    assert {name: [row.lineage for row in own] for name, own in found.items()} == {
        "main": [], "b": ["b"], "c": ["c"],
    }  # fmt: skip
    with pytest.raises(SpecInvalid, match="lineage"):
        import_checkpoint(elsewhere, folder, adopt=False, lineage="a b")


def test_the_champion_of_a_lineage_that_there_is_not_is_told(settings, tmp_path):
    with pytest.raises(PageNotFound, match="lineage"):
        export_checkpoint(settings, "champion", tmp_path / "out", licence="mit", lineage="typo")


def test_what_was_only_kept_where_it_comes_from_is_tried_where_it_goes(elsewhere):
    index = {
        "kind": "policy",
        "checkpoint": {"id": "c", "spec_digest": "0" * 64, "row_card": {CANDIDATE: True}},
    }
    database = open_database(elsewhere)
    database.upgrade()
    with database.read() as session:
        assert CANDIDATE not in _new(session, index, adopt=False, lineage="main").card
        assert _new(session, {**index, "kind": "judge"}, adopt=False, lineage="main").card[CANDIDATE] is True
        assert CANDIDATE not in _new(session, {**index, "kind": "judge"}, adopt=True, lineage="main").card
    database.dispose()


def spoil(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif how == "gone":
        weights.unlink()
    elif how == "index":
        (folder / "gymnastd.json").write_text("{")
    elif how == "foreign":
        (folder / "gymnastd.json").write_text("{}")
    else:
        index = json.loads((folder / "gymnastd.json").read_text())
        if how == "outside":
            index["files"] = {"../secret": "0" * 64, **index["files"]}
        elif how == "unsealed":
            del index["files"]["model.safetensors"]
        else:
            index["card"] = {"forged": True}
        (folder / "gymnastd.json").write_text(json.dumps(index))


@pytest.mark.parametrize("how", ["weights", "gone", "index", "foreign", "outside", "unsealed", "card"])
def test_a_folder_that_was_changed_is_refused_and_nothing_is_kept(settings, elsewhere, tmp_path, how):
    (tmp_path / "secret").write_text("")
    folder = exported(settings, "policy", tmp_path / "out")
    spoil(folder, how)
    with pytest.raises(CheckpointFolderInvalid):
        import_checkpoint(elsewhere, folder, adopt=False)
    database = open_database(elsewhere)
    with database.read() as session:
        assert checkpoints.latest(session, "policy") is None
    database.dispose()


def test_a_readme_may_be_rewritten(settings, elsewhere, tmp_path):
    folder = exported(settings, "policy", tmp_path / "out")
    (folder / "README.md").write_text("mine")
    assert import_checkpoint(elsewhere, folder, adopt=False)[1] is True


def test_nothing_is_written_over_and_nothing_unknown_is_exported(settings, tmp_path):
    folder = exported(settings, "policy", tmp_path / "out")
    with pytest.raises(TargetNotEmpty):
        exported(settings, "policy", folder)
    with pytest.raises(RowMissing):
        export_checkpoint(settings, "nobody", tmp_path / "other", licence="mit")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_checkpoint_file_comes_in_as_it_is(settings, elsewhere, tmp_path, kind):
    stored = row_of(settings, kind)
    file = tmp_path / "found.safetensors"
    shutil.copy(open_blobs(settings).path(stored.sha256), file)
    row, new = import_checkpoint(elsewhere, file, adopt=True)
    assert (new, row.kind, row.sha256, row.parent_id) == (True, kind, stored.sha256, None)
    assert row.card["imported_from"] == "found.safetensors"
    assert file.is_file(), "it stays where it is"
    assert import_checkpoint(elsewhere, file, adopt=True)[1] is False
    database = open_database(elsewhere)
    with database.read() as session:
        assert [found.id for found in adoptable(session, kind, lineage="main")] == [row.id]
    database.dispose()


@pytest.mark.parametrize("how", ["cut", "other", "parts", "kind"])
def test_a_file_that_is_no_checkpoint_is_refused_and_nothing_is_kept(settings, elsewhere, tmp_path, how):
    file = tmp_path / "file.safetensors"
    stored = open_blobs(settings).path(row_of(settings, "judge").sha256)
    state = load_state(stored)
    parts = {"tensors": state.tensors, "kind": state.kind, "config": state.config, "card": {}}
    if how == "cut":
        file.write_bytes(stored.read_bytes()[:-9])
    elif how == "other":
        save_file({"a": torch.zeros(2)}, file)
    elif how == "parts":
        save_state(file, **parts)  # its tokenizer is missing
    else:
        save_state(file, **{**parts, "kind": "reward"}, extra=state.extra)
    with pytest.raises(CheckpointUnreadable):
        import_checkpoint(elsewhere, file, adopt=True)
    database = open_database(elsewhere)
    with database.read() as session:
        assert checkpoints.latest(session, "judge") is None
    database.dispose()


def test_a_whole_worldgym_model_is_what_iterations_go_on_from_once_it_is_adopted(settings, tmp_path):
    """As `import worldgym-checkpoint --autoencoder` leaves it: another autoencoder, told to be so large."""
    small = WorldModel.load(open_blobs(settings).path(row_of(settings, "world_model").sha256))
    other = NanoAutoencoder(latent_channels=4, image_size=128).eval()
    file = tmp_path / "world_model.safetensors"
    WorldModel(small.transformer, other).save(file, {"imported": "ckpt.pt"})
    kept, _ = import_checkpoint(settings, file, adopt=False)
    database, blobs = open_database(settings), open_blobs(settings)
    asked = {"lineage": "main", "preset": "nano", "now": utc_now()}
    assert current(database, blobs, "world_model", **asked).id != kept.id
    elsewhere = Settings(data_dir=tmp_path / "fresh")
    adopted, _ = import_checkpoint(elsewhere, file, adopt=True)
    fresh, there = open_database(elsewhere), open_blobs(elsewhere)
    found = current(fresh, there, "world_model", **asked)
    assert found.id == adopted.id
    assert WorldModel.load(there.path(found.sha256)).image_size == 128
    database.dispose()
    fresh.dispose()


def test_a_backbone_becomes_a_policy_that_learns_by_adapters(elsewhere, tmp_path, monkeypatch):
    llava(tmp_path / "backbone")
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(elsewhere.data_dir))
    words = ["import", "vlm-policy", str(tmp_path / "backbone"), "--chunk", "2", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["kind"], found["number"], found["new"]) == ("policy", 1, True)
    assert json.loads(CliRunner().invoke(app, words).stdout)["new"] is False, "the seed decides its head"
    policy = load_policy(open_blobs(elsewhere).path(found["sha256"]))
    assert isinstance(policy, VlmPolicy)
    database = open_database(elsewhere)
    with database.read() as session:
        assert adoptable(session, "policy", lineage="main") == [], "no robot is driven by it"
    database.dispose()
    assert (policy.chunk, policy.image_size) == (2, 64)
    policy.adapt(rank=2, seed=0)
    assert any("lora_" in name for name, _ in policy.model.named_parameters())
    done = CliRunner().invoke(app, ["import", "vlm-policy", str(tmp_path)])
    assert done.exit_code != 0
    assert type(done.exception).__name__ == "CheckpointUnreadable"


def test_both_are_commands(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(settings.data_dir))
    row, folder = row_of(settings, "policy"), tmp_path / "out"
    done = CliRunner().invoke(app, ["export", "checkpoint", "champion", str(folder)])
    assert done.stdout == f"policy 1 ({row.id}) in {folder}\n"
    done = CliRunner().invoke(app, ["import", "checkpoint", str(folder)])
    assert done.stdout == f"policy 1 ({row.id}) was there already\n"
    found = json.loads(CliRunner().invoke(app, ["import", "checkpoint", str(folder), "--json"]).stdout)
    assert (found["id"], found["number"], found["new"]) == (row.id, 1, False)
    other = tmp_path / "other"
    done = CliRunner().invoke(app, ["export", "checkpoint", row.id, str(other), "--licence", "mit", "--json"])
    sent = json.loads(done.stdout)
    assert (sent["id"], sent["sha256"]) == (row.id, row.sha256)
    assert (sent["folder"], sent["licence"]) == (str(other), "mit")
    shutil.rmtree(folder)
    assert CliRunner().invoke(app, ["import", "checkpoint", str(folder)]).exit_code != 0
