"""What single notebooks need: their experiments and figures, built from the package."""
