"""BAG-CP as a torchvision transform."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from motes.errors import DataError
from motes.training.sky_paste import CopyPaste, SkyCopyPaste

Item = tuple[torch.Tensor, dict[str, torch.Tensor]]


def item(sky: bool = True, wrapped: bool = False) -> Item:
    image = torch.full((3, 60, 70), 40, dtype=torch.uint8)
    image[:, 30:34, 30:35] = 220
    target = {"boxes": torch.tensor([[30.0, 30, 35, 34]]), "labels": torch.tensor([2]), "id": torch.tensor(7)}
    if sky:
        target["sky"] = torch.zeros(60, 70, dtype=torch.uint8)
        target["sky"][:25] = 1
    if wrapped:
        image = tv_tensors.Image(image)
        target["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(60, 70))
        target["sky"] = tv_tensors.Mask(target["sky"])
    return image, target


def until_pasted(transform: CopyPaste, given: Item) -> Item:
    for _ in range(20):  # none is drawn half of the time
        image, target = transform(*given)
        if len(target["boxes"]) > 1:
            return image, target
    raise AssertionError("nothing was pasted in 20 calls")


@pytest.mark.parametrize("wrapped", [False, True])
def test_pastes_into_the_sky_and_keeps_the_kind_of_tensors(wrapped: bool) -> None:
    given = item(wrapped=wrapped)
    transform = v2.Compose([SkyCopyPaste([item()], generator=torch.Generator().manual_seed(0))])
    image, target = until_pasted(transform, given)
    assert type(image) is type(given[0]) and type(target["boxes"]) is type(given[1]["boxes"])
    assert target["boxes"][0].tolist() == [30, 30, 35, 34] and target["labels"].tolist() == [2, 2]
    x1, y1, x2, y2 = target["boxes"][1].int().tolist()
    assert (x2 - x1, y2 - y1) == (5, 4) and y2 <= 25
    assert image.dtype == torch.uint8 and image[:, y1:y2, x1:x2].max() > 40
    changed = (image != given[0]).any(0)
    changed[y1:y2, x1:x2] = False
    assert not changed.any() and target["id"] == 7 and target["sky"] is given[1]["sky"]


def test_is_decided_by_torchs_generator() -> None:
    transform = CopyPaste([item()])
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(torch.stack([transform(*item(sky=False))[0] for _ in range(8)]))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_masks_follow_and_donors_may_be_a_function() -> None:
    image, target = item()
    target["mask"] = torch.zeros(1, 60, 70, dtype=torch.uint8)
    target["mask"][0, 30:34, 30:35] = 1
    _, pasted = until_pasted(CopyPaste(lambda: item(), "plain"), (image, target))
    assert pasted["mask"].shape == (1, 60, 70) and int(pasted["mask"].sum()) == 40
    assert CopyPaste([])(image, target)[0] is image
    assert CopyPaste([item()], chance=0.0)(image, target)[0] is image


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(DataError, match="has no 'sky'"):
        SkyCopyPaste([item()])(*item(sky=False))
    with pytest.raises(DataError, match="'gaussian"):
        CopyPaste([item()], "gaussian_cluster")
