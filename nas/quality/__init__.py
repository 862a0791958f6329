"""Estimating a candidate's quality without training it in full: estimators behind one contract."""
