"""Proofs of global optimality: branch and bound on the phases of what arrives."""
