"""What robots were asked to do so far."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from daemon.api.lab_schemas import Task, Tasks
from daemon.api.services import Wired
from daemon.errors import PageNotFound
from storage import tasks
from storage.tables import TaskRow

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

TaskId = Annotated[str, Path(max_length=100)]


@router.get("", response_model=Tasks)
def list_tasks(services: Wired) -> dict[str, Any]:
    """Give every task, by name."""
    with services.database.read() as session:
        return {"items": [_record(row) for row in tasks.list_tasks(session)]}


@router.get("/{task_id}", response_model=Task)
def get_task(task_id: TaskId, services: Wired) -> dict[str, Any]:
    """Give one task."""
    with services.database.read() as session:
        row = tasks.find(session, task_id)
    if row is None:
        raise PageNotFound(what="task", key=task_id)
    return _record(row)


def _record(row: TaskRow) -> dict[str, Any]:
    return {"id": row.id, "instruction": row.instruction, "registered_at": row.registered_at}
