"""What `airsim verify` prints: one line per law, as soon as it is known."""

from rich.console import Console

from airsim.learn.conformance.laws import LawResult
from airsim.learn.conformance.verify import verify_aggregation


def show_aggregation() -> int:
    """Hold every aggregation method against the dense oracle; returns how many laws are broken."""
    console = Console(highlight=False)
    console.print("5 devices, 4 of them present, ranks 1 to 3, alpha / r from 2.5 to 7.5, unequal weights")
    broken = kept = 0
    for result in verify_aggregation():
        console.print(law_line(result), markup=False, soft_wrap=True)
        broken += not result.holds
        kept += result.holds
    console.print(f"{kept} laws hold, {broken} are broken")
    return broken


def law_line(result: LawResult) -> str:
    """Verdict, method, law, and the largest relative error or count of differences."""
    verdict = "ok    " if result.holds else "BROKEN"
    allowed = f"(at most {result.tolerance:.0e})" if result.tolerance else "(must be 0)"
    return f"{verdict} {result.method:20} {result.law:38} {result.error:8.1e} {allowed}"
