"""Certified transceiver design for over-the-air sums: problem + method -> solution with a lower bound."""

from optim.bounds import lower_bound
from optim.combined.blocks import MultiBlockDesign, MultiBlockProblem
from optim.combined.mse import correlated_stream_mse, pi
from optim.combined.problem import CombinedProblem
from optim.combined.solution import CombinedSolution
from optim.comparison import Comparison, compare
from optim.csi import ErrorCovariance
from optim.csi_report import CsiReport, csi_report
from optim.design import CombinedDesign, TransceiverDesign
from optim.evaluation import CombinedEvaluation, Evaluation
from optim.files import FileError, load_problem, load_solution, save_problem, save_solution
from optim.infeasible import InfeasibleError
from optim.interface import evaluate, solve
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
    "Comparison",
    "compare",
    "lower_bound",
    # what comes back
    "CombinedDesign",
    "CombinedSolution",
    "InfeasibleError",
    "MultiBlockDesign",
    "Solution",
    "Status",
    "TransceiverDesign",
    "VerificationError",
    # files
    "FileError",
    "load_problem",
    "load_solution",
    "save_problem",
    "save_solution",
    # any design on any problem
    "CombinedEvaluation",
    "CsiReport",
    "Evaluation",
    "aggregation_mse",
    "best_receive_beamformer",
    "best_transmit_scalars",
    "correlated_mse",
    "correlated_stream_mse",
    "csi_report",
    "evaluate",
    "pi",
    # units
    "db",
    "dbm",
]
