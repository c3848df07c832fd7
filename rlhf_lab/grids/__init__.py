"""Many runs: as one batch (`stacked`, `ensemble`), in processes (`workers`), as grids (`sweep`)."""
