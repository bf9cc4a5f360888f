"""How payload, airtime and error divide between the shared and the personal adapter."""

from typing import Any

import numpy as np

from optim import checks

# Shares that came from ranks before may come again beside them.
AGREEMENT = 1e-9


def phase_shares(rank_shared: Any, rank_personal: Any, shares: Any) -> tuple[float, float]:
    """``(alpha_s, alpha_p)``, which sum to 1, from ranks or from lengths in any unit.

    Raises:
        ValueError: if neither is given, or if both are and disagree.
    """
    if rank_shared is None and rank_personal is None:
        if shares is None:
            raise ValueError(
                "shares: neither shares nor ranks are given; give rank_shared and rank_personal, or shares"
            )
        return _normalised(shares)
    implied = _from_ranks(rank_shared, rank_personal)
    if shares is not None and not np.allclose(_normalised(shares), implied, rtol=0, atol=AGREEMENT):
        raise ValueError(
            f"shares = {shares} disagree with rank_shared = {rank_shared}, rank_personal = {rank_personal}, "
            f"which mean {implied}: give one of them and leave the other None"
        )
    return implied


def _from_ranks(rank_shared: Any, rank_personal: Any) -> tuple[float, float]:
    for field, rank in (("rank_shared", rank_shared), ("rank_personal", rank_personal)):
        if rank is None:
            raise ValueError(f"{field} is missing: give both ranks (one may be 0), or shares instead")
        if not isinstance(rank, int | np.integer) or rank < 0:
            raise ValueError(f"{field} = {rank} is not allowed: ranks are whole numbers, 0 or more")
    if rank_shared + rank_personal == 0:
        raise ValueError("rank_shared and rank_personal are both 0: there is nothing to aggregate")
    total = rank_shared + rank_personal
    return float(rank_shared / total), float(rank_personal / total)


def _normalised(shares: Any) -> tuple[float, float]:
    pair = checks.real_array("shares", shares)
    if pair.shape != (2,):
        raise ValueError(f"shares has shape {pair.shape}: give the pair (shared, personal)")
    checks.non_negative("shares", pair, "lengths of payloads are 0 or more")
    if not pair.sum() > 0:
        raise ValueError("shares are both 0: there is nothing to aggregate")
    shared, personal = pair / pair.sum()
    return float(shared), float(personal)
