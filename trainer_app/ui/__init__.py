"""`trainer ui`: a read-only server of pages. It imports no code of a run's and unpickles nothing."""
