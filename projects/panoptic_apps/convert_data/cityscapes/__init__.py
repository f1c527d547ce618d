"""Cityscapes as downloaded, prepared for training and evaluation."""
from .conversion import prepare
from .prepared import format_summary

__all__ = ['format_summary', 'prepare']
