"""A run's life, train or tune: what is run, who may drive it, what an attempt resumes, and what ends it.

A run may be driven several times: resubmitted by the operator after its cluster was lost, or resumed by a user. What
the attempts share is in the run's storage: submission.json, lease.json, control/, logs/ and code/.
"""
