"""From winners to trained models: recipes of stages that resume, evaluation after each, results that others load."""

import os

# Read when torch loads: threads that wait asleep. Beside one other busy process two spinning ones trained at 3,000
# tokens a second, sleeping ones at 5,100.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
