"""Who answers: local and remote language models, record and replay, cost."""
