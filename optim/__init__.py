"""Certified transceiver design for over-the-air sums: problem + method -> solution with a lower bound."""

from optim.combined.blocks import MultiBlockDesign, MultiBlockProblem
from optim.combined.mse import correlated_stream_mse, pi
from optim.combined.problem import CombinedProblem
from optim.combined.solution import CombinedSolution
from optim.csi import ErrorCovariance
from optim.design import CombinedDesign, TransceiverDesign
from optim.evaluation import CombinedEvaluation, Evaluation
from optim.interface import evaluate, lower_bound, solve
from optim.mse import aggregation_mse, best_receive_beamformer, best_transmit_scalars, correlated_mse
from optim.options import SolverOptions
from optim.problem import AirCompProblem
from optim.quantity import db, dbm
from optim.solution import Solution, Status, VerificationError
from optim.solvers.catalogue import SOLVERS

METHODS = tuple(SOLVERS)

__all__ = [
    # problems
    "AirCompProblem",
    "CombinedProblem",
    "ErrorCovariance",
    "MultiBlockProblem",
    # solving them
    "METHODS",
    "SolverOptions",
    "solve",
    "lower_bound",
    # what comes back
    "CombinedDesign",
    "CombinedSolution",
    "MultiBlockDesign",
    "Solution",
    "Status",
    "TransceiverDesign",
    "VerificationError",
    # any design on any problem
    "CombinedEvaluation",
    "Evaluation",
    "aggregation_mse",
    "best_receive_beamformer",
    "best_transmit_scalars",
    "correlated_mse",
    "correlated_stream_mse",
    "evaluate",
    "pi",
    # units
    "db",
    "dbm",
]
