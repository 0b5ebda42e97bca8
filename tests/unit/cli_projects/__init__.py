"""LightningCLI projects as people write them, each built another way. Nothing here knows of trainer_app."""
