"""A phone without hardware: the real adbd, the aarch64 runner under qemu, stand-ins for Android's commands."""
