"""Modules and run files to begin from. Nothing in the app imports them: they use it as a project of yours would."""
