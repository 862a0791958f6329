"""Searching around a model that exists: blocks that stand in for the parent's, and candidates judged composed of them.

Modules of this folder import torch, transformers, numpy and safetensors beside our own lower packages, and nothing of
``contracts``, so that a machine with a GPU needs no more than those.
"""
