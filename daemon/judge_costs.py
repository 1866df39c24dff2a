"""What a judge has cost an iteration so far, as the metrics of a phase run.

The judge keeps its totals in a file of the worker's data directory (`judges.ledger`); a phase run that ends
takes them into the database, where the ledger finds them wherever the worker ran.
"""

import json
from pathlib import Path

from storage.ledger import JUDGE_REQUESTS, JUDGE_USD


def costs_path(data_dir: Path, iteration_id: str) -> Path:
    """Where the totals of an iteration are; there is no file before the first request."""
    return data_dir / "judge" / "costs" / f"{iteration_id}.json"


def judge_costs(data_dir: Path, iteration_id: str) -> dict[str, float]:
    """The totals as metrics; none where nobody was asked."""
    file = costs_path(data_dir, iteration_id)
    if not file.is_file():
        return {}
    totals = json.loads(file.read_text(encoding="utf-8"))
    return {JUDGE_REQUESTS: float(totals["requests"]), JUDGE_USD: float(totals["usd"])}
