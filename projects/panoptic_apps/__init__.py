"""Tools around the core, one module or folder each."""
import panoptic_fpn  # noqa: F401  before mmdet asks for mmcv's operators
