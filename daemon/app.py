"""The daemon, put together: REST API, state machine, worker processes. No torch in this process."""

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from importlib.metadata import version

import uvicorn
from anyio import to_thread
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from daemon.api import (
    alarms,
    audit,
    cameras,
    checkpoints,
    episodes,
    estop,
    events,
    health,
    iteration_control,
    iterations,
    judges,
    labels,
    ledger,
    logs,
    manifests,
    metrics,
    notes,
    policies,
    promotion,
    schedules,
    standing,
    start_images,
    station_hours,
    stations,
    success_rates,
    tasks,
    tokens,
    worlds,
)
from daemon.api.answers import Documented
from daemon.api.callers import Callers
from daemon.api.doors import Doors, failure_buckets
from daemon.api.kept_answers import KeptAnswers
from daemon.api.kept_counts import KeptCounts
from daemon.api.problems import install_problems, too_large
from daemon.api.request_counts import CountRequests, RequestCounts
from daemon.api.security import guarded
from daemon.api.services import Services
from daemon.api.sessions import Sessions
from daemon.binding import address_of, require_locked
from daemon.dashboard import routes as dashboard
from daemon.dashboard import what_ifs
from daemon.data_directory import DataDirectoryLock
from daemon.deaths import Death
from daemon.events.feed import Feed
from daemon.events.webhooks import Webhooks
from daemon.jobs import jobs, upkeep_job
from daemon.measurements import Measurements
from daemon.memory import share_memory_between_threads
from daemon.scheduler import Scheduler
from daemon.settings import Settings
from daemon.signals import interrupted_by
from daemon.station_cameras import StationCameras
from daemon.station_watch import StationWatch
from daemon.stores import open_blobs, open_database, require_same_clock, utc_now
from daemon.supervisor import WORKER_COMMAND, Supervisor
from daemon.tracing import tracing
from daemon.upkeep import Upkeep
from daemon.worlds.pictures import MOST_BYTES, MOST_TEXT
from robot_bridge.body_limit import BodyLimit
from robot_bridge.http_heads import BoundedHeads
from storage import run_notes
from storage.change_marks import ChangeMarks
from storage.db import Database

log = logging.getLogger(__name__)

SHUTDOWN_GRACE_S = 5.0
RESOURCES = (
    iterations,
    manifests,
    iteration_control,
    logs,
    success_rates,
    alarms,
    ledger,
    episodes,
    labels,
    notes,
    checkpoints,
    policies,
    promotion,
    judges,
    tasks,
    schedules,
    stations,
    station_hours,
    standing,
    cameras,
    estop,
    worlds,
    start_images,
    events,
    metrics,
    tokens,
    audit,
)
WITH_PICTURES = {  # bytes; a form sends its picture as it is
    **dict.fromkeys((worlds.ASKED_AT, start_images.ADDED_AT), MOST_TEXT + 64 * 1024),
    what_ifs.ASKED_AT: MOST_BYTES + 64 * 1024,
}
# Python runs one at a time; each more costs a connection and its cache, 3 MB. Streams wait elsewhere.
REQUEST_THREADS = 6


def create_app(settings: Settings, *, worker_command: Sequence[str] = WORKER_COMMAND) -> FastAPI:
    """Build the application; its lifespan holds the data directory and runs everything.

    Raises (when it is started):
        DataDirectoryBusy: another daemon has the data directory.
        DatabaseNewer: a later release has migrated the database.
        ClockSkewed: the database keeps another time than this machine.
        BindRefused: others could reach it, and there is no token to ask them for.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with running(settings, worker_command) as services:
            app.state.services = services
            yield

    app = Documented(
        title="gymnastd",
        summary="Collect on the robot, finetune the world model, improve the policy inside it.",
        version=version("gymnast-daemon"),
        lifespan=lifespan,
        docs_url=None,  # its pages would run scripts of another origin on the dashboard's
        redoc_url=None,
    )
    app.state.request_counts = RequestCounts()
    app.add_middleware(BodyLimit, refuse=too_large, larger=WITH_PICTURES)
    app.state.failures = failure_buckets()  # of tokens that are none, shown at the doors or at the login page
    app.add_middleware(Doors, settings=settings, failures=app.state.failures)  # a stranger's body is not read
    app.add_middleware(CountRequests, counts=app.state.request_counts)  # the outermost: it was added last
    install_problems(app)
    app.include_router(health.router)
    for resource in RESOURCES:
        app.include_router(resource.router, dependencies=guarded())
    app.include_router(dashboard.open_router, include_in_schema=False)
    app.include_router(dashboard.router, dependencies=guarded(), include_in_schema=False)
    return app


@contextmanager
def running(settings: Settings, worker_command: Sequence[str] = WORKER_COMMAND) -> Iterator[Services]:
    """Everything but HTTP: lock, newest tables, scheduler, workers. Taken down in the opposite order."""
    with ExitStack() as stack:
        stack.enter_context(tracing(settings, role="serve"))
        stack.enter_context(DataDirectoryLock(settings.data_dir))
        database = open_database(settings)
        stack.callback(database.dispose)
        database.upgrade()
        require_same_clock(database, settings)
        require_locked(settings, database)
        obituary = partial(note_death, database)
        supervisor = Supervisor(settings=settings, command=worker_command, on_death=obituary)
        stack.callback(supervisor.stop)
        blobs = open_blobs(settings)
        told = Feed(database)
        hooks = Webhooks(settings.webhooks, database, now=utc_now)
        hooks.enter()
        upkeep = Upkeep(settings, database)
        stack.callback(upkeep.stop)
        stations = StationWatch(settings)
        stack.callback(stations.close)
        work = jobs(settings, database, blobs, feed=told, hooks=hooks, stations=stations)
        scheduler = Scheduler(database, supervisor, now=utc_now, jobs=[*work, upkeep_job(upkeep)])
        stack.callback(scheduler.stop)
        stack.callback(hooks.stop)
        stack.callback(told.close)
        shown = StationCameras(settings)
        stack.callback(shown.close)
        callers = Callers(database, now=utc_now)
        stack.callback(callers.close)
        callers.prepare()
        marks = stack.enter_context(closing(ChangeMarks(database)))
        scheduler.start()
        yield Services(
            settings=settings,
            database=database,
            blobs=blobs,
            callers=callers,
            answers=KeptAnswers(marks),
            counts=KeptCounts(),
            sessions=Sessions(),
            supervisor=supervisor,
            feed=told,
            measurements=Measurements(database, now=utc_now, hooks=[hook.name for hook in settings.webhooks]),
            stations=stations,
            cameras=shown,
            scheduling=scheduler.running,
            now=utc_now,
        )


def note_death(database: Database, worker: str, death: Death) -> None:
    """Tell the run that a dead worker had, so that it is tried again at once and says why."""
    try:
        with database.write() as session:
            run_notes.note_death(session, worker, code=death.code, message=death.message, now=utc_now())
    except OperationalError as failed:  # the lease runs out all the same
        log.warning("death not noted worker=%s reason=%s", worker, failed.orig)


def serve(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> None:
    """Serve until SIGINT or SIGTERM; `announce` gets the URL once requests are answered.

    Raises:
        DataDirectoryBusy, DatabaseNewer, BindRefused: as create_app.
        TlsUnusable: certificate and key are not two files that fit.
        OSError: the address cannot be bound.
    """
    share_memory_between_threads()
    app = create_app(settings, worker_command=worker_command)
    address = address_of(settings)
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
            ws="none",
            proxy_headers=False,  # who calls is who connects
            ssl_certfile=address.tls_certificate,
            ssl_keyfile=address.tls_key,
            access_log=False,
            timeout_graceful_shutdown=int(SHUTDOWN_GRACE_S),
        )
        server = AnnouncingServer(
            config, lambda bound: announce(address.url(bound)), ending=services.feed.close
        )
        server.run(sockets=[listener])


class AnnouncingServer(uvicorn.Server):
    """A server that says when, and on which socket, it began to answer, and when it begins to end."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[socket.socket], None], *, ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._announce, self._ending = announce, ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()  # streams would keep their connections, and the server would wait for those
        await super().shutdown(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        to_thread.current_default_thread_limiter().total_tokens = REQUEST_THREADS
        await super().startup(sockets=sockets)
        if self.started and sockets:
            self._announce(sockets[0])


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
