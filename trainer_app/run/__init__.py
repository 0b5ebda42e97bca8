"""The life of a run, train or tune: what is run, who may drive it, where an attempt resumes, and what ends it.

A run may have several attempts: KubeRay's operator starts another one after a cluster was lost, or a user resumes the
run. What the attempts share is in the run's storage: submission.json, lease.json, control/, logs/ and code/.
"""
