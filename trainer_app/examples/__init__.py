"""Example modules and run files. Nothing in the app imports them: they use it as your own project would."""
