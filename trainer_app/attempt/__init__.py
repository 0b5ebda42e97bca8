"""One attempt of a run: who may drive it, what it goes on with, and what ends it.

A run may be driven several times: resubmitted by the operator after its cluster was lost, or resumed by a person. What
the attempts share is in the run's storage: submission.json, lease.json, control/, logs/ and code/.
"""

from trainer_app.attempt.deadlines import Deadlines
from trainer_app.attempt.decision import Decision, begin, claim, hopeless, name_owner, note_never_began
from trainer_app.attempt.identity import run_of_cluster, submission
from trainer_app.attempt.lease import Replaced
from trainer_app.attempt.watch import Deadline, Ended, Watch

__all__ = [
    "Deadline",
    "Deadlines",
    "Decision",
    "Ended",
    "Replaced",
    "Watch",
    "begin",
    "claim",
    "hopeless",
    "name_owner",
    "note_never_began",
    "run_of_cluster",
    "submission",
]
