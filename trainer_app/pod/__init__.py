"""Programs that run inside the cluster. They import the storage, and nothing else of trainer_app but its errors."""
