"""`gymnastd station`: serve a robot cell, and what its owner does at it: tokens, saying that it may go on.

Nothing here speaks with a station over HTTP: the commands of an operator act on the station's own folder.
"""

import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from daemon.cli_check import check
from daemon.cli_json import aside
from daemon.cli_rest import AsJson, tell

if TYPE_CHECKING:
    from robot_bridge.station.policy import StationPolicy
    from robot_bridge.station.tokens import Token, TokenFile

station_commands = typer.Typer(name="station", invoke_without_command=True)
token_commands = typer.Typer(name="token", help="Who may call a station.", no_args_is_help=True)
station_commands.add_typer(token_commands)
station_commands.command("check")(check)

MB = 10**6

Driver = Literal["sim", "widowx-envs", "manipulator-gym"]
Tokens = Annotated[Path, typer.Option(help="The station's file of tokens; it holds no secret.")]
TokenName = Annotated[str, typer.Argument(help="Whose token it is.")]
Scene = Annotated[
    Literal["trust", "ask"], typer.Option(help="ask: somebody arranges the objects before every reset.")
]
Endpoints = Annotated[
    list[str] | None,
    typer.Option(help="Beginning of addresses that callback episodes may name; may be repeated."),
]
PolicyTokensFile = Annotated[
    Path | None, typer.Option(help="Tokens for policies that ask for one: lines of origin, space, token.")
]
Announce = Annotated[
    Path | None, typer.Option(help="Write the address to this file once requests are answered.")
]
Spool = Annotated[
    Path, typer.Option(exists=True, file_okay=False, help="The spool of the station, on its own machine.")
]


@station_commands.callback()
def station(
    ctx: typer.Context,
    *,
    sim: Annotated[bool, typer.Option("--sim", help="A simulated WidowX cell.")] = False,
    cell_seed: Annotated[int, typer.Option(min=0, help="0 is the nominal cell, others differ.")] = 0,
    driver: Annotated[Driver | None, typer.Option(help="What the lab speaks to its arm through.")] = None,
    address: Annotated[str | None, typer.Option(help="host:port of the arm's server.")] = None,
    tasks: Annotated[Path | None, typer.Option(help="The lab's tasks; without it AutoEval's.")] = None,
    scene: Scene = "trust",
    station_id: Annotated[str | None, typer.Option(help="The station's name in every episode.")] = None,
    spool: Annotated[Path, typer.Option(help="Where episodes wait until they are fetched.")] = Path("spool"),
    spool_limit_mb: Annotated[int | None, typer.Option(min=1, help="No new episode above it.")] = None,
    host: Annotated[str, typer.Option(help="Beyond this machine it takes TLS and tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8401,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    tokens: Annotated[Path | None, typer.Option(help="Tokens of `gymnastd station token`.")] = None,
    policy_endpoint: Endpoints = None,
    policy_tokens: PolicyTokensFile = None,
    hold_after_ms: Annotated[int, typer.Option(min=1, help="Without a step, the arm holds.")] = 600,
    abort_after_ms: Annotated[int, typer.Option(min=1, help="Without a step, the episode ends.")] = 5000,
    announce: Announce = None,
) -> None:
    """Serve a robot cell over HTTP (robot-station/v1); on loopback, unless TLS and tokens protect it."""
    if ctx.invoked_subcommand is not None:
        return
    from daemon.cli import announced
    from daemon.logs import configure_logging
    from daemon.signals import interrupted_by
    from robot_bridge.drivers.opening import open_driver
    from robot_bridge.station.serve import Binding, serve_station

    kind = _kind(sim, driver)
    limits = _policy(spool_limit_mb, policy_endpoint or [], hold_ms=hold_after_ms, abort_ms=abort_after_ms)
    policy = _with_tokens(limits, policy_tokens)
    binding = Binding(host=host, port=port, tls_certificate=tls_cert, tls_key=tls_key, tokens=_tokens(tokens))
    binding.check()  # before the arm is spoken to
    configure_logging("INFO")
    with interrupted_by(signal.SIGTERM):
        serve_station(
            open_driver(kind, cell_seed=cell_seed, address=address, tasks=tasks, scene=scene),
            spool=spool,
            station_id=station_id or _station_id(kind, cell_seed),
            announce=lambda url: announced(f"station serves {url}", url, announce),
            binding=binding,
            policy=policy,
        )


@token_commands.command("create")
def create_token(
    name: TokenName,
    scope: Annotated[list[str], typer.Option(help="observe, drive, label, estop, operate; repeat it.")],
    tokens: Tokens,
    as_json: AsJson = False,
) -> None:
    """Make a token. Its secret is printed once and kept nowhere; a running station knows it at once."""
    from robot_bridge.station.tokens import TokenFile

    file = TokenFile(tokens)
    secret = file.create(name, scope)
    made = next(each for each in file.tokens() if each.name == name)
    tell({**token_record(made), "token": secret}, as_json, lambda: typer.echo(secret))
    typer.echo(f"token {name} may {', '.join(sorted(set(scope)))}; its secret is not shown again", err=True)


@token_commands.command("revoke")
def revoke_token(name: TokenName, tokens: Tokens, as_json: AsJson = False) -> None:
    """Forget a token; a running station refuses it from the next call on."""
    from robot_bridge.station.tokens import TokenFile

    TokenFile(tokens).revoke(name)
    tell({"name": name, "revoked": True}, as_json, lambda: typer.echo(f"token {name} is revoked"))


@token_commands.command("list")
def list_tokens(tokens: Tokens, as_json: AsJson = False) -> None:
    """Show names, scopes and ages of all tokens; their secrets are nowhere."""
    from robot_bridge.station.tokens import TokenFile

    found = TokenFile(tokens).tokens()
    lines = [
        f"{token.name}\t{', '.join(sorted(token.scopes))}\t{token.created_at:%Y-%m-%d %H:%M} UTC"
        for token in found
    ]
    said = "\n".join(lines) if lines else f"{tokens} holds no token"
    tell({"items": [token_record(each) for each in found]}, as_json, lambda: typer.echo(said))


def token_record(token: "Token") -> dict[str, Any]:
    """What may be known of a station's token."""
    return {"name": token.name, "scopes": sorted(token.scopes), "created_at": token.created_at}


@station_commands.command("human-done")
def human_done(spool: Spool = Path("spool"), as_json: AsJson = False) -> None:
    """Say that what the station waited for is done; it goes on by itself."""
    from robot_bridge.station.human import HumanCall

    call = HumanCall(spool)
    reason = call.reason()
    said = f"the station of {spool} waits for nobody"
    if reason is not None:
        with aside(as_json):
            typer.confirm(f"it waits for somebody: {reason}. Is that done?", abort=True)
        call.done()
        said = "told; the station goes on"
    document = {"spool": str(spool), "done": reason is not None, "waited_for": reason}
    tell(document, as_json, lambda: typer.echo(said))


@station_commands.command("clear-estop")
def clear_estop(spool: Spool = Path("spool"), as_json: AsJson = False) -> None:
    """Release an emergency stop, at the station itself, after a look at the arm."""
    from robot_bridge.station.estop import EStopLatch

    latch = EStopLatch(spool)
    stopped = latch.read()
    said = f"no emergency stop is latched in {spool}"
    if stopped is not None:
        with aside(as_json):
            question = f"stopped since {stopped['since']} ({stopped['reason']}). Is the arm free to move?"
            typer.confirm(question, abort=True)
        latch.clear()
        said = "cleared; the arm may move again"
    document = {"spool": str(spool), "cleared": stopped is not None, "stopped": stopped}
    tell(document, as_json, lambda: typer.echo(said))


def _kind(sim: bool, driver: Driver | None) -> Driver:
    if sim and driver not in {None, "sim"}:
        raise typer.BadParameter(f"--sim is not --driver {driver}; give one of them")
    if not sim and driver is None:
        raise typer.BadParameter("say --sim for a simulated cell, or --driver for an arm")
    return driver or "sim"


def _station_id(kind: Driver, cell_seed: int) -> str:
    return f"sim-widowx-{cell_seed}" if kind == "sim" else f"{kind}-{socket.gethostname()}"


def _tokens(path: Path | None) -> "TokenFile | None":
    from robot_bridge.station.tokens import TokenFile

    if path is None:
        return None
    tokens = TokenFile(path)
    if not tokens.tokens():
        raise typer.BadParameter(f"{path} holds no token; make one: gymnastd station token create --help")
    return tokens


def _with_tokens(policy: "StationPolicy", path: Path | None) -> "StationPolicy":
    from robot_bridge.station.policy_tokens import read_policy_tokens

    return policy if path is None else replace(policy, policy_tokens=read_policy_tokens(path))


def _policy(limit_mb: int | None, endpoints: list[str], *, hold_ms: int, abort_ms: int) -> "StationPolicy":
    from robot_bridge.station.policy import LOOPBACK_ENDPOINTS, SPOOL_LIMIT_BYTES, StationPolicy

    if abort_ms < hold_ms:
        raise typer.BadParameter(f"--abort-after-ms {abort_ms} is less than --hold-after-ms {hold_ms}")
    return StationPolicy(
        spool_limit=SPOOL_LIMIT_BYTES if limit_mb is None else limit_mb * MB,
        policy_endpoints=(*LOOPBACK_ENDPOINTS, *endpoints),
        hold_after_ms=hold_ms,
        abort_after_ms=abort_ms,
    )
