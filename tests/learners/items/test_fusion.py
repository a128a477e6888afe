"""Fusion: whatever is missing has no say, everything that is there is heard, and the gate learns whom to trust."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from learners.items.attributes import AttributeEncoder, features_of
from learners.items.fusion import Gate, ItemFusion, left_out


@pytest.fixture
def fusion() -> ItemFusion:
    torch.manual_seed(0)
    made = ItemFusion({"text": 6, "image": 5, "attributes": 4}, width=16)
    torch.nn.init.normal_(made.gate.logits.weight)
    return made.eval()


def parts(items: int) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(1)
    widths = {"text": 6, "image": 5, "attributes": 4}
    return {name: torch.randn(items, width, generator=made) for name, width in widths.items()}


@pytest.mark.parametrize("lacking", [("image",), ("text",), ("text", "attributes"), ("image", "attributes")])
def test_an_item_that_lacks_a_description_is_as_if_nobody_had_heard_of_it(
    fusion: ItemFusion, lacking: tuple[str, ...]
) -> None:
    whole = parts(3)
    zeroed = whole | {name: torch.zeros_like(whole[name]) for name in lacking}
    absent = {name: value for name, value in whole.items() if name not in lacking}
    torch.testing.assert_close(fusion(zeroed), fusion(absent))
    torch.testing.assert_close(fusion(zeroed).norm(dim=1), torch.ones(3))
    assert not torch.allclose(fusion(zeroed), fusion(whole), atol=1e-3)


def test_an_item_without_any_description_is_zero_and_gives_finite_gradients(fusion: ItemFusion) -> None:
    described = parts(2)
    for value in described.values():
        value[0] = 0
    items = fusion(described)
    assert not items[0].any()
    items.sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in fusion.parameters() if value.grad is not None)


def test_leaving_out_keeps_at_least_one_and_only_while_training(fusion: ItemFusion) -> None:
    present = torch.tensor([[True, False, True]]).repeat(500, 1)
    kept = left_out(present, 0.5)
    assert kept.any(dim=1).all()
    assert not kept[:, 1].any()
    assert 0.4 < kept[:, 0].float().mean() < 0.8
    fusion.modality_dropout = 0.9
    torch.testing.assert_close(fusion(parts(4)), fusion(parts(4)))
    fusion.train()
    assert not torch.allclose(fusion(parts(40)), fusion(parts(40)))


def test_two_descriptions_are_mixed_by_a_sigmoid_as_in_the_paper() -> None:
    torch.manual_seed(0)
    gate = Gate(parts=2, width=3)
    torch.nn.init.normal_(gate.logits.weight)
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    logits = gate.logits(torch.cat([first, second], dim=1))
    share = torch.sigmoid(logits[:, :3] - logits[:, 3:])
    expected = share * first + (1 - share) * second
    torch.testing.assert_close(gate([first, second], torch.ones(4, 2, dtype=torch.bool)), expected)


def test_the_gate_learns_to_hear_the_description_that_can_be_trusted() -> None:
    """Half of the items have a text that is noise and say so in its first number; the other half such an image."""
    torch.manual_seed(0)
    kinds = torch.randint(8, (512,))
    truth, noise = F.one_hot(kinds, 8).float(), torch.randn(512, 8)
    liar = torch.arange(512) % 2 == 0
    flags = torch.stack([liar, ~liar], dim=1).float() * 3
    text = torch.cat([flags[:, :1], torch.where(liar[:, None], noise, truth)], dim=1)
    image = torch.cat([flags[:, 1:], torch.where(liar[:, None], truth, noise)], dim=1)
    figures = {}
    for name, chosen in {"text": {"text": text}, "both": {"text": text, "image": image}}.items():
        fusion, head = ItemFusion({"text": 9, "image": 9}, width=32), torch.nn.Linear(32, 8)
        optimizer = torch.optim.Adam([*fusion.parameters(), *head.parameters()], lr=1e-2)
        train, test = slice(0, 384), slice(384, None)
        for _ in range(150):
            loss = F.cross_entropy(head(fusion({key: value[train] for key, value in chosen.items()})) * 5, kinds[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scores = head(fusion({key: value[test] for key, value in chosen.items()}))
        figures[name] = float((scores.argmax(dim=1) == kinds[test]).float().mean())
    assert figures["both"] > 0.9
    assert figures["text"] < 0.7


VALUES = st.one_of(
    st.text(max_size=9), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.text(max_size=4))
)


@given(
    st.dictionaries(st.text(max_size=6), st.one_of(VALUES, st.dictionaries(st.text(), VALUES, max_size=1)), max_size=6)
)
def test_any_attributes_have_a_vector_of_length_one_or_zero(attributes: dict) -> None:
    (vector,) = AttributeEncoder(width=32).encode([attributes])
    norm = float(np.linalg.norm(vector))
    assert norm == pytest.approx(1, abs=1e-4) or norm == 0
    assert np.isfinite(vector).all()


def test_numbers_near_each_other_are_alike_and_texts_ignore_case_and_width() -> None:
    near, like, far = AttributeEncoder(width=256).encode([{"price": 10.0}, {"price": 11}, {"price": 900}])
    assert near @ like > 0.9
    assert abs(near @ far) < 0.2
    assert list(features_of({"色": "ＲＥＤ"})) == list(features_of({"色": "red"}))  # noqa: RUF001
