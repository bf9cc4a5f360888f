"""Methods that need ranks, masks or scalars before the sum, or every single upload."""

from airsim.learn.operators.base import OnAir
from airsim.learn.operators.clustered import FedInc
from airsim.learn.operators.factor_averaging import RBLA, HetLoRA, ZeroPadding
from airsim.learn.operators.factor_stacking import FactorStacking
from airsim.learn.operators.method import Method
from airsim.learn.operators.product_averaging import BaseDroppingAveraging, ProductAveraging
from airsim.learn.operators.rank_selection import LoRAA2
from airsim.learn.operators.residual import FedExLoRA, LoRAFAIR

OTHER_METHODS = (
    Method(
        name="sp",
        operator=ProductAveraging,
        key="Chen25",
        on_air=OnAir.NONLINEAR,
        trains="A_k and B_k",
        definition="U S V^T = sum_k p_k g_k B_k A_k,  B = U_r S_r / g,  A = V_r^T",
        upload="r_k c (dense: d n)",
        broadcast="r_k c",
        exact="best approximation of rank r_k",
        mixed_ranks="yes",
        reading="`split: even` puts the root of S on both sides: same product, other training",
    ),
    Method(
        name="sp-base-dropping",
        operator=BaseDroppingAveraging,
        key="Chen25",
        on_air=OnAir.NONLINEAR,
        trains="A_k and B_k",
        definition="round 0: U S V^T = W_0 + sum_k p_k g_k B_k A_k, then W_0 = 0; later as SP",
        upload="r_k c (dense: d n)",
        broadcast="r_k c",
        exact="no: all of W_0 beyond rank r is lost",
        mixed_ranks="yes",
        reading=(
            "no published definition: the reading under which SP collapses at small rank as in Table "
            "2 of the source"
        ),
    ),
    Method(
        name="flexlora",
        operator=ProductAveraging,
        key="FlexLoRA",
        on_air=OnAir.NONLINEAR,
        trains="A_k and B_k",
        definition="U S V^T = sum_k p_k g_k B_k A_k,  device k: B = U_{r_k} S_{r_k} / g_k,  A = V_{r_k}^T",
        upload="r_k c (dense: d n)",
        broadcast="r_k c",
        exact="best approximation of rank r_k",
        mixed_ranks="yes",
    ),
    Method(
        name="flora",
        operator=FactorStacking,
        key="FLoRA",
        on_air=OnAir.NONLINEAR,
        trains="A_k and B_k, fresh every round (A random, B = 0)",
        definition="W_0 <- W_0 + [g_1 B_1 .. g_m B_m] [p_1 A_1; ..; p_m A_m], then fresh adapters",
        upload="r_k c (dense: d n)",
        broadcast="c sum_j r_j (dense: d n)",
        exact="yes",
        mixed_ranks="yes",
        reading="fresh A is drawn from the round's stream and need not be sent",
    ),
    Method(
        name="zero-padding",
        operator=ZeroPadding,
        key="HetLoRA",
        on_air=OnAir.MASKED,
        trains="A_k and B_k",
        definition="A = sum_k p_k pad(A_k),  B = sum_k p_k pad(B_k); device k takes the first r_k",
        upload="r_k c (air: r_max c)",
        broadcast="r_k c",
        exact="no: cross terms, and high ranks are diluted",
        mixed_ranks="yes",
        reading="where devices scale differently (alpha / r_k), B travels as (g_k / g) B_k",
    ),
    Method(
        name="hetlora",
        operator=HetLoRA,
        key="HetLoRA",
        on_air=OnAir.MASKED,
        trains="A_k and B_k, with lambda ||tail of B|| ||tail of A|| in the loss",
        definition=(
            "zero-padding with q_k = ||B_k A_k||_F / sum_j ||B_j A_j||_F; a tail whose norm shrank is dropped"
        ),
        upload="r_k c + norm and rank (air: r_max c)",
        broadcast="r_k c",
        exact="no",
        mixed_ranks="yes",
        reading=(
            "one norm and one rank per device over all layers, the norm without g_k; the tail is beyond "
            "floor(0.99 r_k), and its penalty is summed over layers with lambda = 0.005 unless given; "
            "where devices scale differently (alpha / r_k), B travels as (g_k / g) B_k"
        ),
        control="mean and deviation of the payload, norm of B_k A_k, rank that is left",
    ),
    Method(
        name="rbla",
        operator=RBLA,
        key="RBLA",
        on_air=OnAir.MASKED,
        trains="A_k and B_k",
        definition="component i: sum_{k: r_k > i} p_k x_k[i] / sum_{k: r_k > i} p_k",
        upload="r_k c (air: r_max c)",
        broadcast="r_k c",
        exact="no: cross terms",
        mixed_ranks="yes",
        reading=(
            "a component that no participant has stays as it was; where devices scale differently "
            "(alpha / r_k), B travels as (g_k / g) B_k"
        ),
    ),
    Method(
        name="fedex-lora",
        operator=FedExLoRA,
        key="FedEx",
        on_air=OnAir.NONLINEAR,
        trains="A_k and B_k",
        definition="PS, and W_0 <- W_0 + g sum_k p_k (B_k - B)(A_k - A)",
        upload="r c (dense: d n + r c)",
        broadcast="r c + min(d n, (m - 1) r c)",
        exact="yes",
        mixed_ranks="refused",
        reading=(
            "the residual is weighted and scaled like the means; as factors where they are fewer numbers"
        ),
    ),
    Method(
        name="lora-fair",
        operator=LoRAFAIR,
        key="LoRA-FAIR",
        on_air=OnAir.NONLINEAR,
        trains="A_k and B_k",
        definition=(
            "A and B averaged, then B + dB with dB = argmin S(sum_k p_k B_k A_k, (B + dB) A) + lambda"
            " ||dB||^2"
        ),
        upload="r c (dense: d n + r c)",
        broadcast="r c",
        exact="closer than PS, not exact",
        mixed_ranks="refused",
        reading=(
            "S = 1 - cosine by gradient descent, or squared distance in closed form; g is left out on"
            " both sides"
        ),
    ),
    Method(
        name="lora-a2",
        operator=LoRAA2,
        key="LoRA-A2",
        on_air=OnAir.MASKED,
        trains="B_k and A_k in turn",
        definition=(
            "mean change of the live factor, each device sending its most important components within"
            " a budget"
        ),
        upload="selected + indices (air: r d or r n)",
        broadcast="r d or r n",
        exact="yes, of what was selected",
        mixed_ranks="refused",
        reading=(
            "importance ||dB_i|| ||A_i|| (or ||B_i|| ||dA_i||) over all layers is our reading; "
            "selection after training; scenarios give all devices one budget, the operator takes one each"
        ),
        control="mean and deviation of the payload, one index per component sent",
    ),
    Method(
        name="fedinc",
        operator=FedInc,
        key="FedInc",
        on_air=OnAir.NONLINEAR,
        trains="A_k and B_k",
        definition="cluster the devices, then A and B averaged inside clusters, one adapter per cluster",
        upload="r c",
        broadcast="r c",
        exact="no: cross terms inside a cluster",
        mixed_ranks="refused",
        reading=(
            "one sentence in the source; ours: cosine of updates B_k A_k, groups joined by mean "
            "cosine, data weights inside; absent devices stay in their old cluster; no dense route"
        ),
    ),
)
