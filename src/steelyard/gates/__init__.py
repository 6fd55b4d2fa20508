"""Statistics and the verdict. Pure: values in, verdict out."""
