"""Tasks, evaluators, the runner, and the gate from end to end."""
