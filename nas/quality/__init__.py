"""Quality of a candidate before it is worth training: estimators behind one contract."""
