"""Methods of which the server needs one weighted sum."""

from airsim.learn.operators.airpfed_lora import AirPFedLoRA
from airsim.learn.operators.alternating import FFALoRA, RoLoRA
from airsim.learn.operators.base import OnAir
from airsim.learn.operators.factor_averaging import FactorAveraging
from airsim.learn.operators.fresh_basis import CoLR
from airsim.learn.operators.full_model import MOON, FedAvg, FedProx, Scaffold
from airsim.learn.operators.method import Method
from airsim.learn.operators.personal_factor import FedSALoRA

LINEAR_METHODS = (
    Method(
        name="ps",
        operator=FactorAveraging,
        key="Chen25",
        on_air=OnAir.LINEAR,
        trains="A_k and B_k",
        definition="P = sum_k p_k B_k,  Q = sum_k p_k A_k,  dW = g P Q",
        upload="r c",
        broadcast="r c",
        exact="no: the product of means lacks the cross terms",
        mixed_ranks="refused",
        reading="noise of the air enters as a product, (P + N_B)(Q + N_A)",
    ),
    Method(
        name="fedit",
        operator=FactorAveraging,
        key="FedIT",
        on_air=OnAir.LINEAR,
        trains="A_k and B_k",
        definition="PS with p_k = n_k / sum_j n_j",
        upload="r c",
        broadcast="r c",
        exact="no: the product of means lacks the cross terms",
        mixed_ranks="refused",
        reading="one survey lists it under SP; its code is PS",
    ),
    Method(
        name="ffa-lora",
        operator=FFALoRA,
        key="FFA-LoRA",
        on_air=OnAir.LINEAR,
        trains="B_k only; A = A_0 is random, frozen and common",
        definition="B = sum_k p_k B_k",
        upload="r d",
        broadcast="r d",
        exact="yes",
        mixed_ranks="refused",
    ),
    Method(
        name="rolora",
        operator=RoLoRA,
        key="RoLoRA",
        on_air=OnAir.LINEAR,
        trains="B_k and A_k in turn, the other one frozen and common",
        definition="mean of the live factor",
        upload="r d or r n",
        broadcast="r d or r n",
        exact="yes, within a round",
        mixed_ranks="refused",
        reading=(
            "`b_rounds` counts from 0: even starts with B, which is odd where rounds count from 1; "
            "the name has two papers"
        ),
    ),
    Method(
        name="fedsa-lora",
        operator=FedSALoRA,
        key="FedSA",
        on_air=OnAir.LINEAR,
        trains="A_k and B_k",
        definition="A = sum_k p_k A_k; B_k stays on its device",
        upload="r n",
        broadcast="r n",
        exact="personal by design",
        mixed_ranks="prefix of A",
        reading=(
            "mixed ranks are our extension, the mean of a row going over those who have it; the "
            "classification head is personal too, and not part of the payload"
        ),
    ),
    Method(
        name="colr",
        operator=CoLR,
        key="CoLR",
        on_air=OnAir.LINEAR,
        trains="the factor of the long side, from 0; the other is a fresh orthonormal basis",
        definition="W_0 <- W_0 + g B A_t with B = sum_k p_k B_k (tall W), then a new basis",
        upload="r max(d, n)",
        broadcast="r max(d, n)",
        exact="yes (common rank)",
        mixed_ranks="first columns",
        reading=(
            "the basis is known by its seed; SCoLR's sampled columns are read as prefixes, averaged "
            "over those who have them"
        ),
    ),
    Method(
        name="airpfed-lora",
        operator=AirPFedLoRA,
        key="Sun",
        on_air=OnAir.LINEAR,
        trains="nothing: gradients of shared and personal adapters",
        definition="W <- W - eta G, G over all devices (shared) and over those of a task (personal)",
        upload="c (R_s + R_p)",
        broadcast="c (R_s + R_p)",
        exact="one gradient step, unbiased under channel inversion",
        mixed_ranks="one R_s, one R_p",
        control="mean and deviation of the shared and of the personal payload",
    ),
    Method(
        name="fedavg",
        operator=FedAvg,
        key="FedAvg",
        on_air=OnAir.LINEAR,
        trains="W",
        definition="W = sum_k p_k W_k",
        upload="d n",
        broadcast="d n",
        exact="yes",
        mixed_ranks="has no ranks",
    ),
    Method(
        name="fedprox",
        operator=FedProx,
        key="FedProx",
        on_air=OnAir.LINEAR,
        trains="W, with (mu/2) ||w - w_t||^2 in the loss",
        definition="W = sum_k p_k W_k",
        upload="d n",
        broadcast="d n",
        exact="yes",
        mixed_ranks="has no ranks",
    ),
    Method(
        name="scaffold",
        operator=Scaffold,
        key="SCAFFOLD",
        on_air=OnAir.LINEAR,
        trains="W along g - c_k + c",
        definition="x <- x + eta_g sum_k p_k dW_k,  c <- c + (m / N) sum_k p_k dc_k",
        upload="2 d n",
        broadcast="2 d n",
        exact="yes",
        mixed_ranks="has no ranks",
        reading="option II for c_k; weights other than equal are taken for both means",
    ),
    Method(
        name="moon",
        operator=MOON,
        key="MOON",
        on_air=OnAir.LINEAR,
        trains="W, with mu times a contrastive term in the loss",
        definition="W = sum_k p_k W_k",
        upload="d n",
        broadcast="d n",
        exact="yes",
        mixed_ranks="has no ranks",
        reading="each device keeps its model of its last participation",
    ),
)
