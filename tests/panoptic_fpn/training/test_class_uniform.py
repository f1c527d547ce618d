"""The stream in which all classes occur about equally often."""
import itertools

from panoptic_fpn.training.class_uniform import (ClassUniformInfiniteSampler,
                                                 images_of_classes)


def take(iterable, count):
    return list(itertools.islice(iterable, count))


class Labelled:
    """Images that hold the given sets of classes."""

    def __init__(self, *labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_data_info(self, index):
        found = self.labels[index]
        return dict(segments_info=found and [dict(category=c) for c in found])


def test_images_of_classes():
    images = images_of_classes(Labelled([0, 0], [4, 0], [], None))
    assert {k: v.tolist() for k, v in images.items()} == {0: [0, 1], 4: [1]}


def test_class_uniform_stream_is_balanced_resumes_and_is_cut():
    dataset = Labelled([0], [0], [0], [0, 4])
    sampler = ClassUniformInfiniteSampler(dataset, seed=5)
    drawn = take(sampler, 4000)
    # by definition: half of the draws are of class 4, which has one image,
    # and an eighth of them that image for the sake of class 0
    pairs = [(int(i), i.label) for i in drawn]
    assert abs(pairs.count((3, 4)) / 4000 - 1 / 2) < 0.04
    for image in range(4):
        assert abs(pairs.count((image, 0)) / 4000 - 1 / 8) < 0.03
    sampler.start_at(1234)
    again = take(sampler, 50)
    assert [(int(i), i.label) for i in again] == pairs[1234:1284]
    assert [i.seed for i in again] == [i.seed for i in drawn[1234:1284]]
    ranks = []
    for rank in range(2):
        other = ClassUniformInfiniteSampler(dataset, seed=5)
        other.rank, other.world_size = rank, 2
        ranks.append(take(other, 100))
    merged = [i for pair in zip(*ranks) for i in pair]
    assert [(int(i), i.label) for i in merged] == pairs[:200]
