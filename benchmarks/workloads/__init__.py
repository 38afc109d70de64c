"""What is measured: one file a workload, written once for every contender."""
