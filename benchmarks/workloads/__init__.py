"""The workloads: one file each, written once for every contender."""
