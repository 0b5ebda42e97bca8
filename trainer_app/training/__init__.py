"""`trainer train`, and the fit of one worker or trial."""
