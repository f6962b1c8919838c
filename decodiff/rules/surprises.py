"""When a planned run must not start: networks that were brought here would be trained again for want of other files alone."""

from __future__ import annotations

from typing import Any

from decodiff import records
from decodiff.errors import InputError

TRAINING_RULES = ("autoencoder", "train", "train_variant")


def _is_intended(job: Any, workflow: Any) -> bool:
    """Whether a job is planned because of what the user changed or asked for, not for want of files."""
    reason, memory = workflow.dag.reason(job), workflow.persistence
    changed = [*memory.code_changed(job), *memory.input_changed(job), *reason.updated_input - reason.updated_input_run]
    return reason.forced or bool(memory.params_changed(job)) or bool(changed)


def check(workflow: Any, run: str) -> None:
    """Raise `InputError` where pulled networks would be trained again unasked.

    Args:
        workflow: Snakemake's own, once it has planned.
        run: the run's name.
    """
    known = records.recorded([run])
    if not records.brought(known):
        return
    planned = set(workflow.dag.needrun_jobs())

    def upstream(job: Any) -> set[Any]:
        return {job}.union(*(upstream(other) for other in workflow.dag.dependencies[job] if other in planned))

    surprising = [
        path
        for job in planned
        if job.rule.name in TRAINING_RULES and not any(_is_intended(other, workflow) for other in upstream(job))
        for path in job.output
        if path in known
    ]
    if surprising:
        raise InputError(
            f"{min(surprising)} would be trained again, as files that it was made of are not here. Bring them (`dvc pull`); or "
            "make them again, `snakemake prepared` and then `snakemake encoded`; or train: --config recompute=yes"
        )
