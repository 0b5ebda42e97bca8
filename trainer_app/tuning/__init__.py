"""`trainer tune`, a sweep. A trial of one worker runs inside its Tune trial, a larger one starts its own."""
