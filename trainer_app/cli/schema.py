"""`trainer schema`: the run file's JSON Schema, for editors that complete and check YAML."""

from __future__ import annotations


def schema() -> None:
    """Print the run file's JSON Schema (draft 2020-12), for editors.

    In VS Code: `trainer schema > run.schema.json`, and `# yaml-language-server: $schema=run.schema.json` at the top
    of a run file.
    """
    import json

    from trainer_app.config.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
