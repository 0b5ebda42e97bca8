"""Lightning callbacks: what a run adds to the user's own Trainer."""
