"""Models that are told of different things about the same items: some of text alone, some of pictures too."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from learners.items.layout import Layout
from learners.rounds.material import RoundInput

_OF_TEXT, _OF_OTHERS = "text_projection.weight", "others.{}.weight"


def layout_of(trunk: Mapping[str, Tensor]) -> Layout:
    """Return what a kept trunk is told of items; 0 of whatever it has no projection for.

    >>> import torch
    >>> layout_of({"text_projection.weight": torch.zeros(4, 8), "others.image.weight": torch.zeros(4, 3)})
    Layout(text=8, image=3, attributes=0)
    """
    others = (_OF_OTHERS.format(name) for name in ("image", "attributes"))
    widths = [int(trunk[name].shape[-1]) if name in trunk else 0 for name in (_OF_TEXT, *others)]
    return Layout(*widths)


def seen_as(layout: Layout, round_input: RoundInput) -> RoundInput:
    """Return a round as a model of another layout reads it: what it is told of and the rows lack is zero.

    Args:
        layout: The model's. Where its texts are of another width there is no such view, and the round is returned as
            it is.
        round_input: Of the layout that the settings say.
    """
    own = round_input.model.layout
    if layout == own or layout.text != own.text:
        return round_input
    shape = replace(
        round_input.model, text_width=layout.text, image_width=layout.image, attribute_width=layout.attributes
    )
    return replace(round_input, model=shape, text_vectors=own.fitted(round_input.text_vectors, layout))
