"""Cityscapes as downloaded, prepared for training and evaluation."""
