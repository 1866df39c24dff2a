"""`gymnastd policy-server`: a policy behind HTTP, for stations that run episodes themselves and AutoEval."""

import signal
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from daemon.policy_server.sessions import PolicySessions

BASE = "base"
PRESET = "nano"  # the only one whose base checkpoint comes along

Checkpoint = Annotated[
    str, typer.Option(help="A policy checkpoint (safetensors), or `base` for the one that comes along.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Take a new file there, from the next reset on.")]
Host = Annotated[str, typer.Option(help="Beyond loopback, TLS and a token are needed.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
TokenFile = Annotated[Path | None, typer.Option(help="Holds the bearer token that callers must send.")]
PemFile = Annotated[Path | None, typer.Option(help="PEM file.")]
TrustNetwork = Annotated[
    bool, typer.Option("--trust-network", help="Everybody who reaches the address may use the policy.")
]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest actions.")]
Seed = Annotated[int, typer.Option(min=0, help="Of what /act draws above temperature 0.")]
Threads = Annotated[int, typer.Option(min=1, help="Processor threads of one decision.")]
Announce = Annotated[
    Path | None, typer.Option(help="Write the address to this file once requests are answered.")
]


def policy_server(
    *,
    checkpoint: Checkpoint = BASE,
    watch: Watch = False,
    host: Host = "127.0.0.1",
    port: Port = 8402,
    token_file: TokenFile = None,
    tls_certificate: PemFile = None,
    tls_key: PemFile = None,
    trust_network: TrustNetwork = False,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    threads: Threads = 1,
    announce: Announce = None,
) -> None:
    """Serve a policy over HTTP: the station's callback contract, and AutoEval's /act and /reset."""
    from daemon.logs import configure_logging
    from daemon.signals import interrupted_by

    token = None if token_file is None else read_token(token_file)  # told before torch is waited for
    configure_logging("INFO", () if token is None else [token])
    import torch

    from daemon.cli import announced
    from daemon.policy_server.checkpoint_file import CheckpointWatch
    from daemon.policy_server.serve import PolicyBinding, serve_policy

    torch.set_num_threads(threads)
    path = checkpoint_path(checkpoint)
    sessions = sessions_of(path, temperature)
    binding = PolicyBinding(
        host=host,
        port=port,
        token=token,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        trust_network=trust_network,
    )
    watching = CheckpointWatch(path, sessions).looking() if watch else nullcontext()
    with interrupted_by(signal.SIGTERM), watching:
        serve_policy(
            sessions,
            binding=binding,
            seed=seed,
            announce=lambda url: announced(f"policy server serves {url}", url, announce),
        )


def sessions_of(path: Path, temperature: float) -> "PolicySessions":
    """The policy of a checkpoint file, ready for sessions.

    Raises:
        BadParameter: it is no policy checkpoint.
    """
    from daemon.learning.errors import LearningError
    from daemon.policy_server.checkpoint_file import load_policy
    from daemon.policy_server.sessions import PolicySessions

    try:
        return PolicySessions(*load_policy(path), temperature=temperature)
    except LearningError as error:
        raise typer.BadParameter(f"{error} [{error.code}]") from error


def checkpoint_path(named: str) -> Path:
    """The file of a checkpoint that was named on the command line.

    Raises:
        AssetMissing: the base checkpoint did not come with this installation.
    """
    from daemon.errors import AssetMissing
    from daemon.phases.checkpoints import ASSETS

    if named != BASE:
        return Path(named)
    path = ASSETS / PRESET / "policy.safetensors"
    if not path.is_file():
        raise AssetMissing(kind="policy", preset=PRESET, path=path)
    return path


def read_token(path: Path) -> str:
    """The token in a file: one word, and nothing else.

    Raises:
        typer.BadParameter: there is no such file, or not one word in it.
    """
    try:
        words = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"token file {path} cannot be read: {type(error).__name__}") from error
    if len(words) != 1:
        raise typer.BadParameter(f"token file {path} must hold one word, found {len(words)}. Write one.")
    return words[0]
