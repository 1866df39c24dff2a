"""`gymnastd start-image`: pictures of people's own to start from; `snapshot`: what cameras see now."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli_policy import read_token
from daemon.cli_rest import DEFAULT_URL, AsJson, TokenFile, Url, client_of, tell
from daemon.cli_worlds import encoded

if TYPE_CHECKING:
    from daemon.world_client import WorldClient

start_image_commands = typer.Typer(
    name="start-image", help="Pictures that policy updates may start from.", no_args_is_help=True
)

ImageId = Annotated[str, typer.Argument(help="The picture's id.")]
Key = Annotated[str | None, typer.Option(help="Idempotency key: with the same key it is kept once.")]


@start_image_commands.command("add")
def add_start_image(
    image: Annotated[Path, typer.Argument(help="A PNG or JPEG.")],
    *,
    task: Annotated[str, typer.Option(help="Which task the robot is to do there.")],
    instruction: Annotated[str, typer.Option(help="What is asked of the robot.")],
    key: Key = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Keep a picture that imagined rollouts of policy updates may start from."""
    new = {"image": encoded(image), "task": task, "instruction": instruction}
    record = _client(url, token_file).add_start_image(new, idempotency_key=key)
    tell(record, as_json, lambda: typer.echo(f"{image} is kept as start image {record['id']}"))


@start_image_commands.command("list")
def list_start_images(as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None) -> None:
    """List the pictures that are there, oldest first."""
    from daemon.console_lab import START_IMAGES
    from daemon.console_look import show_table

    answer = _client(url, token_file).start_images()
    tell(answer, as_json, lambda: show_table(answer["items"], START_IMAGES, empty="no picture is kept"))


@start_image_commands.command("show")
def show_start_image(
    image_id: ImageId,
    *,
    out: Annotated[Path | None, typer.Option(help="Gets the picture, PNG.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show what is known of a picture, and fetch it."""
    from daemon.console_lab import START_IMAGES
    from daemon.console_look import show_table

    client = _client(url, token_file)
    record = client.start_image(image_id)
    if out is not None:
        out.write_bytes(client.picture(record["image"]))
    tell(record, as_json, lambda: show_table([record], START_IMAGES, empty=""))
    if out is not None:
        typer.echo(f"start image {image_id} is {out}", err=True)


@start_image_commands.command("remove")
def remove_start_image(
    image_id: ImageId, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Remove a picture, file and all; an iteration that started from it can then not be done again."""
    _client(url, token_file).remove_start_image(image_id)
    document = {"id": image_id, "removed": True}
    tell(document, as_json, lambda: typer.echo(f"start image {image_id} is removed"))


def snapshot(
    *,
    camera: Annotated[int, typer.Option(min=0, help="Which station of the settings, from 0 on.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Gets the camera's newest picture, JPEG.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show how the stations' cameras stand, and fetch the newest picture of one."""
    from daemon.console_lab import CAMERAS
    from daemon.console_look import show_table
    from daemon.errors import PageNotFound

    client = client_of(url, token_file)
    answer = client.cameras()
    shown = {view["place"]: view for view in answer["items"]}.get(camera)
    if out is not None:
        if shown is None:
            raise PageNotFound(what="camera", key=camera)
        if shown["picture"] is None:
            raise PageNotFound(what=f"picture ({shown['says']}) of camera", key=camera)
        out.write_bytes(client.camera_picture(shown["picture"]))
        typer.echo(f"{out} is what camera {camera} showed: {shown['says']}", err=True)
    tell(answer, as_json, lambda: show_table(answer["items"], CAMERAS, empty="no station of this daemon's"))


def _client(url: str, token_file: Path | None) -> "WorldClient":
    from daemon.world_client import WorldClient

    return WorldClient(url, token=None if token_file is None else read_token(token_file))
