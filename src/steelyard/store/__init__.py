"""The shared tracking and registry core. The only room that imports mlflow."""
