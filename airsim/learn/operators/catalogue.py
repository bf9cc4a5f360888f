"""All aggregation methods by name: definition, cost, on-air class, source."""

from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.operators.alternating import FFALoRA, RoLoRA
from airsim.learn.operators.base import OnAir
from airsim.learn.operators.clustered import FedInc
from airsim.learn.operators.factor_averaging import RBLA, FactorAveraging, HetLoRA, ZeroPadding
from airsim.learn.operators.factor_stacking import FactorStacking
from airsim.learn.operators.fresh_basis import CoLR
from airsim.learn.operators.full_model import MOON, FedAvg, FedProx, Scaffold
from airsim.learn.operators.method import Method
from airsim.learn.operators.personal_factor import FedSALoRA
from airsim.learn.operators.product_averaging import BaseDroppingAveraging, ProductAveraging
from airsim.learn.operators.rank_selection import LoRAA2
from airsim.learn.operators.residual import FedExLoRA, LoRAFAIR

_AB = "A_k and B_k"
_NO_CROSS = "no: the product of means lacks the cross terms"
_REFUSED = "refused"
_SCALED = "where devices scale differently (alpha / r_k), B travels as (g_k / g) B_k"

_ENTRIES = (
    Method(
        "ps", FactorAveraging, "Wang", OnAir.LINEAR, _AB,
        "P = sum_k p_k B_k,  Q = sum_k p_k A_k,  dW = g P Q",
        "r c", "r c", _NO_CROSS, _REFUSED,
        "noise of the air enters as a product, (P + N_B)(Q + N_A)",
    ),
    Method(
        "fedit", FactorAveraging, "FedIT", OnAir.LINEAR, _AB,
        "PS with p_k = n_k / sum_j n_j",
        "r c", "r c", _NO_CROSS, _REFUSED,
        "one survey lists it under SP; its code is PS",
    ),
    Method(
        "sp", ProductAveraging, "Wang", OnAir.NONLINEAR, _AB,
        "U S V^T = sum_k p_k g_k B_k A_k,  B = U_r S_r / g,  A = V_r^T",
        "r_k c (dense route: d n)", "r_k c", "best approximation of rank r_k", "yes",
        "`split: even` puts the root of S on both sides: same product, other training",
    ),
    Method(
        "sp-base-dropping", BaseDroppingAveraging, "Wang", OnAir.NONLINEAR, _AB,
        "round 0: U S V^T = W_0 + sum_k p_k g_k B_k A_k, then W_0 = 0; later as SP",
        "r_k c (dense route: d n)", "r_k c", "no: all of W_0 beyond rank r is lost", "yes",
        "no published definition: the reading under which SP collapses at small rank as in Table 2 of the source",
    ),
    Method(
        "flexlora", ProductAveraging, "FlexLoRA", OnAir.NONLINEAR, _AB,
        "U S V^T = sum_k p_k g_k B_k A_k,  device k: B = U_{r_k} S_{r_k} / g_k,  A = V_{r_k}^T",
        "r_k c (dense route: d n)", "r_k c", "best approximation of rank r_k", "yes",
    ),
    Method(
        "flora", FactorStacking, "FLoRA", OnAir.NONLINEAR, "A_k and B_k, fresh every round (A random, B = 0)",
        "W_0 <- W_0 + [g_1 B_1 .. g_m B_m] [p_1 A_1; ..; p_m A_m], then fresh adapters",
        "r_k c (dense route: d n)", "c sum_j r_j (dense route: d n)", "yes", "yes",
        "fresh A is drawn from the round's stream and need not be sent",
    ),
    Method(
        "zero-padding", ZeroPadding, "HetLoRA", OnAir.MASKED, _AB,
        "A = sum_k p_k pad(A_k),  B = sum_k p_k pad(B_k); device k takes the first r_k",
        "r_k c (on air: r_max c)", "r_k c", "no: cross terms, and high ranks are diluted", "yes", _SCALED,
    ),
    Method(
        "hetlora", HetLoRA, "HetLoRA", OnAir.MASKED, f"{_AB}, with lambda ||tail of B|| ||tail of A|| in the loss",
        "zero-padding with q_k = ||B_k A_k||_F / sum_j ||B_j A_j||_F; a tail whose norm shrank is dropped",
        "r_k c + 1 scalar (on air: r_max c)", "r_k c", "no", "yes",
        f"one norm per device over all layers, without g_k; the tail is beyond floor(0.99 r_k); {_SCALED}",
    ),
    Method(
        "rbla", RBLA, "RBLA", OnAir.MASKED, _AB,
        "component i: sum_{k: r_k > i} p_k x_k[i] / sum_{k: r_k > i} p_k",
        "r_k c (on air: r_max c)", "r_k c", "no: cross terms", "yes",
        f"a component that no participant has stays as it was; {_SCALED}",
    ),
    Method(
        "ffa-lora", FFALoRA, "FFA-LoRA", OnAir.LINEAR, "B_k only; A = A_0 is random, frozen and common",
        "B = sum_k p_k B_k",
        "r d", "r d", "yes", _REFUSED,
    ),
    Method(
        "rolora", RoLoRA, "RoLoRA", OnAir.LINEAR, "B_k and A_k in turn, the other one frozen and common",
        "mean of the live factor",
        "r d or r n", "r d or r n", "yes, within a round", _REFUSED,
        "`b_rounds` counts from 0: even starts with B, which is odd where rounds count from 1; the name has two papers",
    ),
    Method(
        "fedsa-lora", FedSALoRA, "FedSA", OnAir.LINEAR, _AB,
        "A = sum_k p_k A_k; B_k stays on its device",
        "r n", "r n", "personal by design", "prefix of A, mean over those present",
        "mixed ranks are our extension; the classification head is personal too, and not part of the payload",
    ),
    Method(
        "fedex-lora", FedExLoRA, "FedEx", OnAir.NONLINEAR, _AB,
        "PS, and W_0 <- W_0 + g sum_k p_k (B_k - B)(A_k - A)",
        "r c (dense route: d n + r c)", "r c + min(d n, (m - 1) r c)", "yes", _REFUSED,
        "the residual is weighted and scaled like the means; as factors where they are fewer numbers",
    ),
    Method(
        "lora-fair", LoRAFAIR, "LoRA-FAIR", OnAir.NONLINEAR, _AB,
        "A and B averaged, then B + dB with dB = argmin S(sum_k p_k B_k A_k, (B + dB) A) + lambda ||dB||^2",
        "r c (dense route: d n + r c)", "r c", "closer than PS, not exact", _REFUSED,
        "S = 1 - cosine by gradient descent, or squared distance in closed form; g is left out on both sides",
    ),
    Method(
        "colr", CoLR, "CoLR", OnAir.LINEAR, "the factor of the long side, from 0; the other is a fresh orthonormal basis",
        "W_0 <- W_0 + g B A_t with B = sum_k p_k B_k (tall W), then a new basis",
        "r max(d, n)", "r max(d, n)", "yes (common rank)", "first columns, mean over those present",
        "the basis is known by its seed; SCoLR's sampled columns are read as prefixes",
    ),
    Method(
        "lora-a2", LoRAA2, "LoRA-A2", OnAir.MASKED, "B_k and A_k in turn",
        "mean change of the live factor, each device sending its most important components within a budget",
        "selected columns or rows + their indices (on air: r d or r n)", "r d or r n",
        "yes, of what was selected", "budgets per device; ranks: refused",
        "importance ||dB_i|| ||A_i|| (or ||B_i|| ||dA_i||) over all layers is our reading; selection after training",
    ),
    Method(
        "fedinc", FedInc, "Wang", OnAir.NONLINEAR, _AB,
        "cluster the devices, then A and B averaged inside clusters",
        "r c", "r c, one adapter per cluster", "no: cross terms inside a cluster", _REFUSED,
        "one sentence in the source; ours: cosine of updates B_k A_k, groups joined by mean cosine, data weights "
        "inside; absent devices stay in their old cluster; no dense route",
    ),
    Method(
        "airpfed-lora", AirPFedLoRA, "Sun", OnAir.LINEAR, "nothing: gradients of shared and personal adapters",
        "W <- W - eta G, G over all devices (shared) and over those of a task (personal)",
        "c (R_s + R_p)", "c (R_s + R_p)", "one gradient step, unbiased under channel inversion", "R_p per task",
    ),
    Method(
        "fedavg", FedAvg, "FedAvg", OnAir.LINEAR, "W", "W = sum_k p_k W_k", "d n", "d n", "yes", "has no ranks",
    ),
    Method(
        "fedprox", FedProx, "FedProx", OnAir.LINEAR, "W, with (mu/2) ||w - w_t||^2 in the loss",
        "W = sum_k p_k W_k", "d n", "d n", "yes", "has no ranks",
    ),
    Method(
        "scaffold", Scaffold, "SCAFFOLD", OnAir.LINEAR, "W along g - c_k + c",
        "x <- x + eta_g sum_k p_k dW_k,  c <- c + (m / N) sum_k p_k dc_k",
        "2 d n", "2 d n", "yes", "has no ranks",
        "option II for c_k; weights other than equal are taken for both means",
    ),
    Method(
        "moon", MOON, "MOON", OnAir.LINEAR, "W, with mu times a contrastive term in the loss",
        "W = sum_k p_k W_k", "d n", "d n", "yes", "has no ranks",
        "each device keeps its model of its last participation",
    ),
)  # fmt: skip

METHODS = {method.name: method for method in _ENTRIES}


def find_method(name: str) -> Method:
    """A method by name.

    Raises:
        ValueError: there is none of this name; the message lists them.
    """
    if name not in METHODS:
        raise ValueError(f"no aggregation method {name!r}: choose one of {', '.join(METHODS)}")
    return METHODS[name]
