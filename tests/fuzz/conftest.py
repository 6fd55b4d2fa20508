import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # fuzz_mutation and fuzz_targets, shared with the atheris script
