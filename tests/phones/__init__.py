"""A phone without adb: ``phone.sh`` under this machine's sh, Android's commands as files, a runner made of shell."""
