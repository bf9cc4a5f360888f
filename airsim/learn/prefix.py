"""What lies below the lowest adapter, once per data set: exact as long as data and base stay the same."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from airsim.learn.data.tasks import Split
from airsim.learn.local_data import LocalData
from airsim.learn.models.base import AbstractBaseModel
from airsim.learn.parallel import one_threaded_kernels

# Products are kept up to this size; larger data sets compute them anew in every pass. The bits differ between
# the two where products of other shapes round differently, so this number belongs to a result.
PRODUCT_BYTES_KEPT = 512 * 2**20
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class KnownPrefix:
    """Samples as the lowest adapted layer reads them, and that layer's frozen product where it is kept."""

    samples: Split
    product: Float[Tensor, "M L O"] | None


def known_prefix(
    model: AbstractBaseModel, samples: Split, adapted: Collection[str], bytes_kept: int = PRODUCT_BYTES_KEPT
) -> KnownPrefix:
    """Inputs and product of the lowest adapted layer for a data set; the samples alone if it is too large."""
    if not samples.size:
        return KnownPrefix(samples, None)
    with one_threaded_kernels():
        first = model.below(samples.x[:1], adapted)
        if samples.size * sum(tensor.nbytes for tensor in first) > bytes_kept:
            return KnownPrefix(samples, None)
        # The lowest layer of all reads the samples themselves, which need not be copied.
        as_they_are = first[0].data_ptr() == samples.x.data_ptr()
        blocks = [model.below(rows, adapted) for rows in samples.x.split(ROWS_AT_A_TIME)]
    inputs, products = zip(*blocks, strict=True)
    x = samples.x if as_they_are else torch.cat(inputs)
    return KnownPrefix(Split(x, samples.y), torch.cat(products))


def with_products(model: AbstractBaseModel, data: LocalData, adapted: Collection[str]) -> LocalData:
    """Data of devices that train, prepared for the adapters they train; unchanged if that is too large."""
    share = PRODUCT_BYTES_KEPT // max(len(data.splits), 1)
    prefixes = [known_prefix(model, split, adapted, share) for split in data.splits]
    products = [prefix.product for prefix in prefixes if prefix.product is not None]
    if len(products) < len(prefixes):
        return data
    return replace(data, splits=[prefix.samples for prefix in prefixes], products=products)
