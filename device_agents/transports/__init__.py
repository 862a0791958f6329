"""Transports to a phone, one file each, behind the contract of ``base``."""
