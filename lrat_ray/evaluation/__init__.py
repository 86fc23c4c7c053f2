"""Prove that a retriever is better by letting agents use it: judge answers, compare arms in pairs, report with intervals."""
