"""The daemon, put together: REST API, state machine, worker processes. No torch in this process."""

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI

from daemon.api import checkpoints, episodes, events, health, iterations, labels, logs, metrics, success_rates
from daemon.api.problems import install_problems, too_large
from daemon.api.request_counts import CountRequests, RequestCounts
from daemon.api.services import Services
from daemon.data_directory import DataDirectoryLock
from daemon.events import disk, feed, webhooks
from daemon.events.disk import watch_disk
from daemon.events.feed import Feed
from daemon.events.webhooks import Webhooks
from daemon.measurements import Measurements
from daemon.scheduler import Job, Scheduler
from daemon.settings import Settings
from daemon.signals import interrupted_by
from daemon.stores import open_blobs, open_database, utc_now
from daemon.supervisor import WORKER_COMMAND, Supervisor
from robot_bridge.body_limit import BodyLimit
from robot_bridge.http_heads import BoundedHeads

log = logging.getLogger(__name__)

SHUTDOWN_GRACE_S = 5.0


def create_app(settings: Settings, *, worker_command: Sequence[str] = WORKER_COMMAND) -> FastAPI:
    """Build the application; its lifespan holds the data directory and runs everything.

    Raises (when it is started):
        DataDirectoryBusy: another daemon has the data directory.
        DatabaseNewer: a later release has migrated the database.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with running(settings, worker_command) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="gymnastd",
        summary="Collect on the robot, finetune the world model, improve the policy inside it.",
        version=version("gymnast-daemon"),
        lifespan=lifespan,
    )
    app.state.request_counts = RequestCounts()
    app.add_middleware(BodyLimit, refuse=too_large)
    app.add_middleware(CountRequests, counts=app.state.request_counts)  # the outermost: it was added last
    install_problems(app)
    for resource in (iterations, success_rates, episodes, labels, checkpoints, logs, events, metrics, health):
        app.include_router(resource.router)
    return app


@contextmanager
def running(settings: Settings, worker_command: Sequence[str] = WORKER_COMMAND) -> Iterator[Services]:
    """Everything but HTTP: lock, newest tables, scheduler, workers. Taken down in the opposite order."""
    with ExitStack() as stack:
        stack.enter_context(DataDirectoryLock(settings.data_dir))
        database = open_database(settings)
        stack.callback(database.dispose)
        database.upgrade()
        supervisor = Supervisor(settings=settings, command=worker_command)
        stack.callback(supervisor.stop)
        told = Feed(database)
        hooks = Webhooks(settings.webhooks, database, now=utc_now)
        hooks.enter()
        look_at_disk = partial(
            watch_disk, database, settings.data_dir, low_gb=settings.disk_low_gb, now=utc_now
        )
        also: list[Job] = [
            (told.look, feed.LOOK_EVERY_S),
            (hooks.deliver, webhooks.LOOK_EVERY_S),
            (look_at_disk, disk.LOOK_EVERY_S),
        ]
        scheduler = Scheduler(database, supervisor, now=utc_now, also=also)
        stack.callback(scheduler.stop)
        stack.callback(hooks.stop)
        stack.callback(told.close)
        scheduler.start()
        yield Services(
            settings=settings,
            database=database,
            blobs=open_blobs(settings),
            supervisor=supervisor,
            feed=told,
            measurements=Measurements(database, now=utc_now),
            scheduling=scheduler.running,
            now=utc_now,
        )


def serve(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> None:
    """Serve until SIGINT or SIGTERM; `announce` gets the URL once requests are answered.

    Raises:
        DataDirectoryBusy, DatabaseNewer: as create_app.
        OSError: the address cannot be bound.
    """
    app = create_app(settings, worker_command=worker_command)
    with (
        interrupted_by(signal.SIGTERM),
        listening_socket(settings.host, settings.port) as listener,
        running(settings, worker_command) as services,
    ):
        app.state.services = services
        config = uvicorn.Config(
            app,
            lifespan="off",  # the parts are running already, so that their errors reach the caller
            log_config=None,
            http=BoundedHeads,
            access_log=False,
            timeout_graceful_shutdown=int(SHUTDOWN_GRACE_S),
        )
        AnnouncingServer(config, announce, ending=services.feed.close).run(sockets=[listener])


class AnnouncingServer(uvicorn.Server):
    """A server that says when, and where, it began to answer, and when it begins to end."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[str], None], *, ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._announce, self._ending = announce, ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()  # streams would keep their connections, and the server would wait for those
        await super().shutdown(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind an address; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
